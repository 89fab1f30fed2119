"""The site file and the credentials directory: YAML and raw keys in, checked objects out.

Must not know: sockets, the spool, commands.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfoNotFoundError

import yaml

from edge_agent import keygen, templates
from edge_agent.algorithms.configure import configure
from edge_agent.algorithms.rule import Rule, zone
from edge_agent.commands.desk import Device
from edge_agent.drivers import cjt188
from edge_agent.drivers.driver import ChannelSpec, DeviceSpec
from edge_agent.enrolment import Platform
from edge_agent.errors import SiteError
from edge_agent.readback import HistorySource
from edge_agent.renewal import resume
from protos import suites
from protos.suites import BoxKey, SigningKey, Suite, VerifyingKey

PRIVATE: Final = (*keygen.SIGNING_FILE.values(), *keygen.BOX_FILE.values(), "agent.key", "nats.seed")


@dataclass(frozen=True, slots=True)
class Uplink:
    """Where to dial. `kind`: grpc (`address` host:port) or nats (`url`); `partition`: only when the platform says so."""

    kind: str
    address: str = ""
    url: str = ""
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class SiteDevice:
    """A device of the site: what it is and how it is reached."""

    device: Device
    channel: str
    link: DeviceSpec
    poll_s: float


@dataclass(frozen=True, slots=True)
class Site:
    """One edge box (采集网关). Times in seconds, sizes in bytes; every field is explained in the guide."""

    project_id: int
    agent_id: str
    partitions: int
    state_dir: Path
    credentials_dir: Path
    uplink: Uplink
    channels: Mapping[str, ChannelSpec]
    devices: Mapping[int, SiteDevice]
    cycle_s: float = 1.0
    linger_s: float = 5.0
    batch_readings: int = 500
    heartbeat_s: float = 5.0
    spool_limit_bytes: int = 2 << 30
    clock: str = "auto"
    metrics_port: int = 0
    history: HistorySource | None = None
    timezone: str = "Asia/Shanghai"
    rules: tuple[Rule, ...] = ()
    suite: Suite = Suite.STD


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of the box and of the platform.

    All of one suite: a box signs, opens and believes in that one only.

    Attributes:
        audit_signing: signs checkpoints of the audit log; None at a box admitted before it was told, until its next renewal.
    """

    signing: SigningKey
    box: BoxKey
    telemetry_box: bytes
    command_signing: VerifyingKey
    gateway_name: str
    directory: Path
    platform: Platform | None = None
    audit_signing: VerifyingKey | None = None

    @property
    def suite(self) -> Suite:
        """The suite of these keys."""
        return suites.suite_of(self.signing)


def load_site(path: Path) -> Site:
    """Read site.yaml; relative directories are relative to it.

    Raises:
        SiteError: names the field.
        TemplateError: a template is unknown or wrong.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=templates.LOADER)  # noqa: S506  # nosec B506
    except OSError as error:
        raise SiteError(field=str(path.name), problem=str(error.strerror)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise SiteError(field=path.name, problem=f"not YAML, line {mark.line + 1 if mark else '?'}") from None
    if not isinstance(data, dict):
        raise SiteError(field=path.name, problem="must be a mapping")
    channels = {spec.name: spec for spec in (_channel(row, k) for k, row in enumerate(_rows(data, "channels")))}
    devices: dict[int, SiteDevice] = {}
    read: dict[Path, templates.Template] = {}
    for k, row in enumerate(_rows(data, "devices")):
        device = _device(row, k, channels, path.parent, read)
        if device.device.id in devices:
            raise SiteError(field=f"devices.{k}.id", problem=f"{device.device.id} stands twice")
        devices[device.device.id] = device
    clock = str(data.get("clock", "auto"))
    if clock not in {"auto", "system", "platform"}:
        raise SiteError(field="clock", problem="must be auto, system or platform")
    agent_id = _text(data, "agent_id")
    if any(c in agent_id for c in ". *>\t\r\n/"):
        raise SiteError(field="agent_id", problem="must not contain dots, spaces, slashes or wildcards")
    return Site(
        project_id=int(_number(data, "project_id", 1, 2**32 - 1)), agent_id=agent_id, partitions=int(_number(data, "partitions", 1, 4096, 8)),
        state_dir=path.parent / _text(data, "state_dir"), credentials_dir=path.parent / _text(data, "credentials_dir"), uplink=_uplink(data.get("uplink")),
        channels=channels, devices=devices, cycle_s=_number(data, "cycle_s", 0.05, 60, 1.0), linger_s=_number(data, "linger_s", 0.05, 3600, 5.0),
        batch_readings=int(_number(data, "batch_readings", 1, 20_000, 500)), heartbeat_s=_number(data, "heartbeat_s", 0.2, 300, 5.0),
        spool_limit_bytes=int(_number(data, "spool_limit_bytes", 1 << 20, 1 << 50, 2 << 30)), clock=clock, metrics_port=int(_number(data, "metrics_port", 0, 65_535, 0)),
        history=_history(data.get("history")), timezone=_timezone(data), rules=tuple(configure(_rows(data, "rules"), {k: d.device for k, d in devices.items()})), suite=_suite(data))


def load_credentials(directory: Path) -> Credentials:
    """Read the credentials directory; private files must be readable by their owner only.

    Raises:
        SiteError: a file is missing, malformed or readable by others, or a key is of another suite than the signing key.
        Sm2MissingError: they are of suite SM, and this machine has no SM2.
    """
    resume(directory)
    for name in PRIVATE:
        file = directory / name
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise SiteError(field=name, problem="is readable by others; run chmod 600")
    try:
        suite = keygen.suite_at(directory)
        platform = json.loads((directory / "platform.json").read_text(encoding="utf-8"))
        return Credentials(
            suites.signing_key(suite, (directory / keygen.SIGNING_FILE[suite]).read_bytes()), suites.box_key(suite, (directory / keygen.BOX_FILE[suite]).read_bytes()),
            _platform_key(platform, "telemetry_box", suite), suites.verifying_key(_platform_key(platform, "command_signing", suite)), str(platform.get("gateway_name", "")), directory,
            Platform(str(platform["enrolment"]["host"]), int(platform["enrolment"]["port"]), str(platform.get("gateway_name") or "kang-gateway")) if "enrolment" in platform else None,
            suites.verifying_key(_platform_key(platform, "audit_signing", suite)) if platform.get("audit_signing") else None)
    except OSError as error:
        raise SiteError(field=f"credentials_dir/{Path(str(error.filename)).name}", problem=str(error.strerror)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise SiteError(field="credentials_dir", problem=f"a key is malformed ({error})") from None


def _platform_key(platform: Mapping[str, Any], name: str, suite: Suite) -> bytes:
    key = bytes.fromhex(platform[name])
    if suites.suite_of_public(key) is not suite:
        raise SiteError(field="credentials_dir/platform.json", problem=f"{name} is not of suite {suite.text}, the keys of this box are; a change of suite needs an empty directory and a new enrolment")
    return key


def _suite(data: Mapping[str, Any]) -> Suite:
    try:
        return Suite.named(str(data.get("suite", "std")))
    except ValueError:
        raise SiteError(field="suite", problem="must be std or sm") from None


def _uplink(data: Any) -> Uplink:
    if not isinstance(data, dict) or data.get("kind") not in {"grpc", "nats"}:
        raise SiteError(field="uplink.kind", problem="must be grpc or nats")
    wanted = "address" if data["kind"] == "grpc" else "url"
    partition = data.get("partition")
    return Uplink(data["kind"], **{wanted: _text(data, wanted, "uplink.")}, partition=None if partition is None else int(partition))


def _timezone(data: Mapping[str, Any]) -> str:
    name = str(data.get("timezone", "Asia/Shanghai"))
    try:
        zone(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise SiteError(field="timezone", problem=f"{name} is not known; write it as Asia/Shanghai") from None
    return name


def _history(data: Any) -> HistorySource | None:
    if data is None:
        return None
    codes = data.get("codes") if isinstance(data, dict) else None
    if not isinstance(codes, dict) or not str(data.get("url", "")).startswith(("http://", "https://")):
        raise SiteError(field="history", problem="needs url (http or https) and codes (device code: id)")
    return HistorySource(str(data["url"]), _number(data, "days", 0.0, 4000.0, 7.0, "history."), {str(k): int(v) for k, v in codes.items()})


def _channel(row: Mapping[str, Any], k: int) -> ChannelSpec:
    where = f"channels.{k}."
    protocol, transport = _text(row, "protocol", where), str(row.get("transport", "tcp"))
    if protocol not in templates.PROTOCOLS:
        raise SiteError(field=f"{where}protocol", problem=f"must be one of {', '.join(templates.PROTOCOLS)}")
    if transport not in {"tcp", "serial"}:
        raise SiteError(field=f"{where}transport", problem="must be tcp or serial")
    parity = str(row.get("parity", "N"))
    if parity not in {"N", "E", "O"}:
        raise SiteError(field=f"{where}parity", problem="must be N, E or O")
    base = ChannelSpec(_text(row, "name", where), protocol, transport, baud=int(_number(row, "baud", 300, 1_000_000, 9600, where)), parity=parity, framing=str(row.get("framing", "")))
    if transport == "serial":
        return replace(base, device=_text(row, "device", where))
    return replace(base, host=_text(row, "host", where), port=int(_number(row, "port", 1, 65_535, None, where)))


def _device(row: Mapping[str, Any], k: int, channels: Mapping[str, ChannelSpec], home: Path, read: dict[Path, templates.Template]) -> SiteDevice:
    where = f"devices.{k}."
    name = _text(row, "template", where)
    if name.endswith((".yaml", ".yml")):
        if home / name not in read:
            read[home / name] = templates.load(home / name)  # a hundred like devices share one file, which is read once
        template = read[home / name]
    else:
        template = templates.builtin(name)
    channel = channels.get(_text(row, "channel", where))
    if channel is None:
        raise SiteError(field=f"{where}channel", problem=f"{row.get('channel')} is not among the channels")
    if channel.protocol != template.protocol:
        raise SiteError(field=f"{where}channel", problem=f"speaks {channel.protocol}, the template {template.protocol}")
    points = dict(template.points)
    for key, changes in (row.get("points") or {}).items():
        if key not in points or not isinstance(changes, dict):
            raise SiteError(field=f"{where}points.{key}", problem="is not a point of the template")
        points[key] = templates.override(points[key], changes)
    for key in row.get("absent") or []:
        points.pop(str(key), None)  # a sensor this device was built without
    identifier = int(_number(row, "id", 1, 2**32 - 1, None, where))
    address = str(row.get("address", ""))
    length = {"dlt645": 12, "cjt188": 14}.get(template.protocol)
    if length is not None and (len(address) != length or any(c not in "0123456789ABCDEFabcdef" for c in address)):
        raise SiteError(field=f"{where}address", problem=f"must be {length} hex digits as printed on the meter, in quotes")
    settings = {**template.link, **(row.get("link") or {})}
    if template.protocol == "cjt188" and settings.get("profile", "standard") not in cjt188.PROFILES:
        raise SiteError(field=f"{where}link.profile", problem=f"must be one of {', '.join(cjt188.PROFILES)}")
    link = DeviceSpec(identifier, int(_number(row, "unit", 0, 255, 1, where)), address.upper(), _number(row, "ct_ratio", 1e-6, 1e6, 1.0, where),
                      _number(row, "pt_ratio", 1e-6, 1e6, 1.0, where), settings)
    return SiteDevice(Device(identifier, template, points), channel.name, link, _number(row, "poll_s", 0.1, 86_400, template.poll_s, where))


def _rows(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = data.get(name) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SiteError(field=name, problem="must be a list of mappings")
    return rows


def _text(data: Mapping[str, Any], name: str, where: str = "") -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise SiteError(field=f"{where}{name}", problem="must be text" if name in data else "is missing")
    return value


def _number(data: Mapping[str, Any], name: str, low: float, high: float, default: float | None = None, where: str = "") -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SiteError(field=f"{where}{name}", problem="must be a number" if name in data else "is missing")
    if not low <= value <= high:
        raise SiteError(field=f"{where}{name}", problem=f"must lie within [{low:g}, {high:g}]")
    return float(value)
