"""Rows of the operation table of monitoring (在线监测)."""

from __future__ import annotations

from cloud.security.operations import EVERYONE, READERS, Operation, Role

OPERATIONS = (
    Operation("monitoring.overview.read", "查看运行总览", "See the overview", READERS),
    Operation("monitoring.latest.read", "查看实时值", "See newest values", EVERYONE),
    Operation("monitoring.history.read", "查看历史数据", "See history", EVERYONE),
    Operation("monitoring.flow.read", "查看能量流", "See the energy flow", READERS),
    Operation("monitoring.rooms.read", "查看室温", "See room temperatures", READERS, label="personal"),
    Operation("monitoring.alarms.read", "查看报警", "See alarms", EVERYONE),
    Operation("monitoring.live.read", "接收实时推送", "Receive the live stream", EVERYONE),
    Operation("monitoring.live.subscribe", "更改实时订阅", "Change the live subscription", EVERYONE),
    Operation("monitoring.quarantine.read", "查看隔离区", "See the quarantine", READERS),
    Operation("monitoring.quarantine.release", "放行隔离数据", "Release quarantined data", frozenset({Role.ENGINEER}), changes=True, level="warning"),
    Operation("monitoring.quarantine.discard", "丢弃隔离数据", "Discard quarantined data", frozenset({Role.ENGINEER}), changes=True, level="warning"),
)
