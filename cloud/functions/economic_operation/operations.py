"""Rows of the operation table of economic operation (经济运行)."""

from __future__ import annotations

from cloud.security.operations import READERS, STEP_UP_S, Operation, Role

OPERATIONS = (
    Operation("economic_operation.plan.read", "查看经济运行计划", "See plans of economic operation", READERS),
    Operation("economic_operation.setting.change", "更改经济运行方式", "Change how a project is run", frozenset({Role.OPERATOR, Role.ENGINEER, Role.DISPATCHER}), changes=True, label="control", level="notice",
              factor_s=STEP_UP_S, priority=2),
)
