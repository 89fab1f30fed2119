"""Settings of one installation: a TOML file in its home directory, overridden by KANG_* environment variables.

Secrets never stand here: they are files of mode 0600 in the credentials directory. Must not know: what anybody does with a setting.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from cloud.core.retention import RetentionError, audit_days, network_days
from protos.errors import KangError


class SettingsError(KangError):
    """A setting is unknown or cannot be read."""

    code = "E-SETTING"
    zh = "设置项 {name} 无效：{problem}。请修改 {file}。"
    en = "Setting {name} is invalid: {problem}. Edit {file}."


@dataclass(frozen=True, slots=True)
class Settings:
    """One installation. Empty URLs mean "start and supervise our own".

    Attributes:
        home: directory of everything this installation keeps.
        portal_host: address the portal listens on.
        portal_port: HTTP port of the portal.
        portal_https: 1 when TLS stands in front of the portal: cookies become Secure and __Host-.
        gateway_host: address the edge gateway listens on.
        gateway_port: gRPC port of the edge link (mTLS).
        enrolment_port: port of the listener where boxes enrol and renew (TLS).
        interfaces_host: address the listener of external systems listens on.
        interfaces_port: port of the listener of external systems (mutual TLS, certificate-bound tokens); 0 = none.
        interfaces_grpc_port: port of the same for gRPC; 0 = none.
        public_host: name or address under which boxes reach this installation; "" = gateway_host.
        nats_url: given NATS, or "".
        nats_host: address our own nats-server listens on; a NATS agent on another machine needs one it can reach.
        nats_port: port of our own nats-server.
        historian_url: clickhouse(s)://host:port, or "" for the own store process (chDB).
        store_port: loopback port of the own store process.
        ledger_url: SQLAlchemy URL, or "" for SQLite in `home`.
        ray_address: address of a given Ray cluster, or "" for an own local one.
        ray_port: GCS port of our own Ray head.
        partitions: telemetry partitions; fixed at first start, stored data depend on it.
        hosts: Ray project hosts; 0 = one less than the cores, at least one.
        timezone: zone in which days are cut for rollups and reports.
        heartbeat_s: what agents are told.
        password_days: days after which a password must be changed; 0 = never.
        audit_days: days after which audit records are deleted under a signed cut; 0 = never; at least 1098 (three years).
        network_days: days network records are kept; at least 183.
        weather_url: forecasts for planning: an Open-Meteo address or file:///path.csv; empty = the site's own outdoor sensor
        batch_devices: a batch of commands to more devices needs a second person.
        batch_kw: a batch to devices of more rated power (kW) needs a second person.
    """

    home: Path
    portal_host: str = "127.0.0.1"
    portal_port: int = 8420
    portal_https: int = 0
    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8421
    enrolment_port: int = 8424
    interfaces_host: str = "127.0.0.1"
    interfaces_port: int = 8425
    interfaces_grpc_port: int = 8427
    public_host: str = ""
    nats_url: str = ""
    nats_host: str = "127.0.0.1"
    nats_port: int = 8422
    historian_url: str = ""
    store_port: int = 8423
    ledger_url: str = ""
    ray_address: str = ""
    ray_port: int = 8426
    partitions: int = 8
    hosts: int = 0
    timezone: str = "Asia/Shanghai"
    heartbeat_s: int = 5
    password_days: int = 90
    audit_days: int = 1830
    network_days: int = 400
    weather_url: str = ""
    batch_devices: int = 20
    batch_kw: int = 1000

    @property
    def credentials(self) -> Path:
        """Directory of secrets, mode 0700."""
        return self.home / "credentials"

    @property
    def reached_at(self) -> str:
        """Where boxes find this installation."""
        return self.public_host or (self.gateway_host if self.gateway_host not in ("0.0.0.0", "::") else "127.0.0.1")  # noqa: S104 # nosec B104  compared, not bound

    @property
    def effective_nats_url(self) -> str:
        """Where NATS is."""
        return self.nats_url or f"tls://127.0.0.1:{self.nats_port}"

    @property
    def effective_ledger_url(self) -> str:
        """Where the business records are."""
        return self.ledger_url or f"sqlite:///{self.home / 'ledger.sqlite'}"

    def save(self) -> None:
        """Write `kang.toml` in the home directory."""
        self.home.mkdir(parents=True, exist_ok=True)
        lines = ["# Settings of this Kang installation; see docs/operations. Secrets live in credentials/, never here.\n"]
        for field in fields(self):
            if field.name != "home":
                value = getattr(self, field.name)
                lines.append(f'{field.name} = "{value}"\n' if isinstance(value, str) else f"{field.name} = {value}\n")
        (self.home / "kang.toml").write_text("".join(lines))


def ray_directory(settings: Settings) -> Path:
    """Where our own Ray head keeps its sockets and logs: short, because socket paths must be."""
    return Path("/tmp") / ("kang-ray-" + hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]) / "r"  # noqa: S108 # nosec B108


def load(home: Path, **overrides: str | int) -> Settings:
    """Read settings: defaults < kang.toml < KANG_* environment < `overrides`.

    Raises:
        SettingsError: an unknown name or a value of the wrong type.
    """
    file = home / "kang.toml"
    values: dict[str, str | int] = {}
    if file.exists():
        try:
            values.update(tomllib.loads(file.read_text()))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(name="kang.toml", problem=str(error), file=file) from error
    known = {f.name: f for f in fields(Settings) if f.name != "home"}
    for name in known:
        given = os.environ.get(f"KANG_{name.upper()}")
        if given is not None:
            values[name] = given
    values.update(overrides)
    clean: dict[str, str | int] = {}
    for name, value in values.items():
        if name not in known:
            raise SettingsError(name=name, problem="unknown", file=file)
        try:
            clean[name] = int(value) if str(known[name].type) == "int" else str(value)
        except ValueError:
            raise SettingsError(name=name, problem=f"'{value}' is not a whole number", file=file) from None
    settings = Settings(home=home.expanduser().resolve(), **clean)  # type: ignore[arg-type]
    if not 1 <= settings.partitions <= 512:
        raise SettingsError(name="partitions", problem="must be 1..512", file=file)
    _check_retention(settings, file)
    if settings.ray_address:
        for name in ("nats_url", "historian_url", "ledger_url"):
            given = str(getattr(settings, name))
            if not given or given.startswith("sqlite"):
                raise SettingsError(name=name, problem="a cluster of several nodes needs a server they can all reach; SQLite and chDB serve one node", file=file)
    return settings


def _check_retention(settings: Settings, file: Path) -> None:
    """Raises: SettingsError: less would be kept than the floors in code."""
    for name, check in (("audit_days", audit_days), ("network_days", network_days)):
        try:
            check(int(getattr(settings, name)))
        except RetentionError as error:
            raise SettingsError(name=name, problem=error.message("en"), file=file) from error
