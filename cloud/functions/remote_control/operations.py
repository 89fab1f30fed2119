"""Rows of the operation table of remote control (远程控制)."""

from __future__ import annotations

from cloud.security.operations import READERS, STAFF, STEP_UP_S, Operation, Role

OPERATIONS = (
    Operation("remote_control.command.read", "查看远程控制记录", "See commands", READERS, label="control"),
    Operation("remote_control.command.preview", "预演远程控制", "Preview a command", STAFF | {Role.RESIDENT}, label="control"),
    Operation("remote_control.command.submit", "下发远程控制", "Send a command", STAFF | {Role.RESIDENT}, changes=True, label="control", level="notice",
              factor_s=STEP_UP_S, priority=1),
    Operation("remote_control.tag.remove", "摘除他人挂牌", "Remove another person's lockout", STAFF, changes=True, label="control", level="warning", factor_s=STEP_UP_S, two_person=True,
              approvers=STAFF, priority=1),
    Operation("remote_control.command.resolve", "核实结果未知的控制", "Resolve an unknown command", STAFF, changes=True, label="control",
              level="warning", factor_s=STEP_UP_S, priority=1),
    Operation("remote_control.emergency.stop", "紧急停机", "Emergency stop", STAFF, changes=True, label="control", level="warning", safety=True, priority=0),
    Operation("remote_control.emergency.restore", "恢复供热", "Restore heat", STAFF, changes=True, label="control", level="warning", safety=True, priority=0),
    Operation("remote_control.parameter.read", "查看调控参数", "See control parameters", READERS, label="control"),
    Operation("remote_control.parameter.export", "导出调控参数", "Export control parameters", READERS, label="control", audit="always"),
    Operation("remote_control.batch.read", "查看批量控制", "See batches of commands", READERS, label="control"),
    Operation("remote_control.batch.export", "导出批量控制", "Export batches of commands", READERS, label="control", audit="always"),
    Operation("remote_control.batch.preview", "预演批量控制", "Preview a batch", STAFF, label="control"),
    Operation("remote_control.batch.submit", "下发批量控制", "Send a batch", STAFF, changes=True, label="control", level="notice", factor_s=STEP_UP_S, priority=1),
    Operation("remote_control.batch.release", "执行经批准的批量控制", "Carry out a batch that a second person approved", STAFF, changes=True, label="control", level="warning", factor_s=STEP_UP_S, two_person=True,
              approvers=STAFF, priority=1),
    Operation("remote_control.batch.cancel", "取消批量控制的未发部分", "Cancel what a batch has not sent", STAFF, changes=True, label="control", level="notice", factor_s=STEP_UP_S, priority=1),
    Operation("remote_control.batch.restore", "恢复批量控制前的设定", "Put back what a batch changed", STAFF, changes=True, label="control", level="warning", factor_s=STEP_UP_S, priority=1),
)
