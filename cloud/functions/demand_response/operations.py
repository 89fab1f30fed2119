"""Rows of the operation table of demand response (需求响应)."""

from __future__ import annotations

from cloud.security.operations import READERS, STEP_UP_S, Operation, Role

_ASKS = frozenset({Role.GRID_DISPATCHER, Role.DISPATCHER})
_ANSWERS = frozenset({Role.OPERATOR, Role.DISPATCHER})

OPERATIONS = (
    Operation("demand_response.resource.read", "查看可调资源", "See resources for the grid", READERS | {Role.GRID_DISPATCHER}, priority=0),
    Operation("demand_response.event.read", "查看需求响应事件", "See demand-response events", READERS, priority=1),
    Operation("demand_response.dispatch.read", "调度机构查看本机构事件", "A dispatcher sees its events", _ASKS, priority=0),
    Operation("demand_response.dispatch.submit", "下达、修改需求响应事件", "Ask for demand response", _ASKS, changes=True, label="control", level="warning", factor_s=STEP_UP_S, priority=0),
    Operation("demand_response.dispatch.cancel", "撤销需求响应事件", "Take a demand-response event back", _ASKS, changes=True, label="control", level="warning", factor_s=STEP_UP_S, priority=0),
    Operation("demand_response.dispatch.clear", "出清需求响应报价", "Clear a bid", _ASKS, changes=True, label="control", level="warning", factor_s=STEP_UP_S, priority=0),
    Operation("demand_response.dispatch.setpoint", "下发实时功率设定", "Set the power of an event under way", _ASKS, changes=True, label="control", level="notice", factor_s=STEP_UP_S, priority=0),
    Operation("demand_response.program.change", "登记、修改需求响应项目（OpenADR）", "Register or change a demand-response program (OpenADR)", _ASKS, changes=True, level="notice", priority=0),
    Operation("demand_response.exchange.write", "提交 OpenADR 其他对象", "Send other OpenADR objects (reports, vens, resources, subscriptions)", _ASKS, changes=True, level="notice", priority=5),
    Operation("demand_response.event.bid", "需求响应报价", "Bid for a demand-response event", _ANSWERS, changes=True, label="control", level="notice", factor_s=STEP_UP_S),
    Operation("demand_response.event.settle", "结算需求响应事件（后台）", "Settle a demand-response event (job)", _ANSWERS, changes=True, level="notice", priority=9),
    Operation("demand_response.strategy.read", "查看响应策略", "See response strategies", READERS),
    Operation("demand_response.strategy.change", "更改响应策略", "Change how a project answers the grid", _ANSWERS | {Role.ENGINEER}, changes=True, label="control", level="notice", factor_s=STEP_UP_S),
    Operation("demand_response.offer.read", "查看可参与的需求响应", "See offers one can join", READERS),
    Operation("demand_response.offer.choose", "参与或退出需求响应", "Join or decline an offer", _ANSWERS | {Role.ENGINEER, Role.SERVICE}, changes=True, label="control", level="notice", factor_s=STEP_UP_S),
    Operation("demand_response.statement.read", "查看收益明细", "See statements of demand response", READERS),
)
