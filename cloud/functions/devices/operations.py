"""Rows of the operation table of device management (设备管理)."""

from __future__ import annotations

from cloud.security.operations import EVERYONE, READERS, Operation

OPERATIONS = (
    Operation("devices.project.read", "查看项目", "See projects", EVERYONE),
    Operation("devices.device.read", "查看设备", "See devices", EVERYONE),
    Operation("devices.agent.read", "查看边缘代理与链路", "See agents and links", READERS),
    Operation("devices.catalogue.read", "查看测点目录", "See the point catalogue", EVERYONE, label="public"),
)
