"""Rows of the operation table of device management (设备管理)."""

from __future__ import annotations

from cloud.security.operations import EVERYONE, READERS, STEP_UP_S, Operation, Role

#: Who answers for boxes: the engineer who installs them, the administrator of certificates.
BOXES = frozenset({Role.ENGINEER, Role.SECURITY_ADMIN})

OPERATIONS = (
    Operation("devices.project.read", "查看项目", "See projects", EVERYONE),
    Operation("devices.device.read", "查看设备", "See devices", EVERYONE),
    Operation("devices.agent.read", "查看边缘代理与链路", "See agents and links", READERS | {Role.SECURITY_ADMIN}),
    Operation("devices.agent.invite", "查看注册邀请", "See open invitations", BOXES, label="control"),
    Operation("devices.agent.invite_new", "邀请代理注册", "Invite an agent to enrol", BOXES, changes=True, label="control", level="notice", factor_s=STEP_UP_S),
    Operation("devices.agent.withdraw", "撤回注册邀请", "Withdraw an invitation", BOXES, changes=True, label="control", level="notice", factor_s=STEP_UP_S),
    Operation("devices.agent.revoke", "吊销代理", "Revoke an agent", BOXES, changes=True, label="control", level="warning", factor_s=STEP_UP_S),
    Operation("devices.agent.clear", "解除克隆嫌疑", "End the suspicion of a clone", BOXES, changes=True, label="control", level="warning", factor_s=STEP_UP_S),
    *(Operation(f"devices.{what}.register", f"登记{zh}（命令行或作业）", f"Register {en} (command line or job)", frozenset({Role.ENGINEER}), changes=True, level="notice", scope="platform")
      for what, zh, en in (("region", "区域", "a region"), ("project", "项目", "a project"), ("agent", "边缘代理", "an agent"), ("template", "设备模板", "a device template"), ("device", "设备", "devices"))),
    Operation("devices.catalogue.read", "查看测点目录", "See the point catalogue", EVERYONE, label="public"),
)
