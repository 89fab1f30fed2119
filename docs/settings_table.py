"""The settings table of the operations pages, made from cloud/core/settings.py: `python docs/settings_table.py` rewrites both pages.

`--check` only says whether they are true. Names, defaults and English meanings come from the code; Chinese meanings stand here, and a
setting without one is an error. Must not know: what a setting does.
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

from cloud.core.settings import Settings

DOCS = Path(__file__).parent
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
ZH = {
    "portal_https": "门户前有 TLS 时为 1：Cookie 加 Secure 与 __Host- 前缀", "nats_host": "自带 nats-server 的监听地址；其他机器上的 NATS 代理需能到达",
    "portal_host": "门户监听地址", "portal_port": "门户 HTTP 端口", "gateway_host": "边缘网关监听地址", "gateway_port": "边缘链路 gRPC 端口（双向 TLS）",
    "nats_url": "已有 NATS 的地址；留空则自行启动", "nats_port": "自带 nats-server 的端口", "historian_url": "clickhouse(s)://主机:端口；留空则使用自带存储进程（chDB）",
    "store_port": "自带存储进程的本机端口", "ledger_url": "SQLAlchemy 地址；留空则为安装目录内的 SQLite", "ray_address": "已有 Ray 集群的地址；留空则自行启动",
    "ray_port": "自带 Ray 头节点的 GCS 端口", "partitions": "遥测分区数；首次启动后不可更改，已存数据依赖它", "hosts": "Ray 项目主机数；0 = 核数减一，至少一个",
    "timezone": "汇总与报表切分日期所用时区", "heartbeat_s": "告知采集代理的心跳间隔，秒",
    "enrolment_port": "边缘盒注册与续期监听端口（TLS）", "public_host": "边缘盒到达本安装所用的名称或地址；留空为 gateway_host",
    "interfaces_host": "外部系统接口监听地址", "interfaces_port": "外部系统接口监听端口（双向 TLS，令牌绑定证书）；0 = 不监听",
    "interfaces_grpc_port": "外部系统 gRPC 接口监听端口；0 = 不监听",
    "password_days": "口令须更换的天数；0 = 不强制更换",
    "audit_days": "审计记录保存天数，到期以签名清除记录删除；0 = 永不删除；至少 1098（三年）", "network_days": "网络记录保存天数；至少 183",
    "batch_devices": "批量控制超过这么多台设备时须第二人批准",
    "batch_kw": "批量控制的设备额定功率合计超过此值（kW）时须第二人批准",
    "weather_url": "规划所用天气预报：Open-Meteo 地址或 file:///路径.csv；留空 = 站点自己的室外传感器",
}


def english() -> dict[str, str]:
    """Meanings from the docstring's Attributes."""
    text = (Settings.__doc__ or "").split("Attributes:", 1)[1]
    return {m[1]: m[2].strip().rstrip(".") for m in re.finditer(r"^\s+(\w+): (.+)$", text, re.MULTILINE)}


def table(language: str) -> str:
    """The Markdown table in "en" or "zh"."""
    words = english() if language == "en" else ZH
    head = "| setting | environment | default | meaning |" if language == "en" else "| 设置 | 环境变量 | 默认值 | 含义 |"
    rows = [head, "|---|---|---|---|"]
    for field in fields(Settings):
        if field.name != "home":
            default = f"`{field.default}`" if field.default != "" else ("empty" if language == "en" else "空")
            rows.append(f"| `{field.name}` | `KANG_{field.name.upper()}` | {default} | {words[field.name]} |")
    return "\n".join(rows)


def page(language: str) -> tuple[Path, str, str]:
    """(file, text as it stands, text as it should be)."""
    file = DOCS / language / "operations.md"
    text = file.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return file, text, f"{before}{BEGIN}\n{table(language)}\n{END}{after}"


def main(argv: list[str]) -> int:
    """Rewrite, or check; 1 when a page was not true."""
    stale = [(file, wanted) for file, found, wanted in map(page, ("en", "zh")) if found != wanted]
    if "--check" not in argv:
        for file, wanted in stale:
            file.write_text(wanted, encoding="utf-8")
        return 0
    for file, _ in stale:
        print(f"{file} does not match cloud/core/settings.py; run python docs/settings_table.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
