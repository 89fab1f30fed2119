"""Rows of the operation table of remote control (远程控制)."""

from __future__ import annotations

from cloud.security.operations import READERS, STAFF, STEP_UP_S, Operation, Role

OPERATIONS = (
    Operation("remote_control.command.read", "查看远程控制记录", "See commands", READERS, label="control"),
    Operation("remote_control.command.preview", "预演远程控制", "Preview a command", STAFF | {Role.RESIDENT}, label="control"),
    Operation("remote_control.command.submit", "下发远程控制", "Send a command", STAFF | {Role.RESIDENT}, changes=True, label="control", level="notice",
              factor_s=STEP_UP_S, priority=1),
    Operation("remote_control.command.resolve", "核实结果未知的控制", "Resolve an unknown command", STAFF, changes=True, label="control",
              level="warning", factor_s=STEP_UP_S, priority=1),
    Operation("remote_control.emergency.stop", "紧急停机", "Emergency stop", STAFF, changes=True, label="control", level="warning", safety=True, priority=0),
    Operation("remote_control.emergency.restore", "恢复供热", "Restore heat", STAFF, changes=True, label="control", level="warning", safety=True, priority=0),
)
