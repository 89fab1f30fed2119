"""Device templates (设备模板): YAML in, frozen objects out; every mistake is named with file, line and field.

Must not know: sockets, the spool, commands; it says what a device is, not what happens to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from edge_agent.errors import TemplateError
from protos.points import BY_KEY, Point
from protos.units import UnitError, conversion

DEVICES: Final = Path(__file__).parent / "devices"
PROTOCOLS: Final = ("modbus", "dlt645", "cjt188")
TABLES: Final = ("holding", "input", "coil", "discrete")
WIDTH: Final = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2, "bit": 1}
SEVERITIES: Final = ("critical", "major", "minor", "warning", "info")
MAX_DEPTH: Final = 8
RATIOS: Final = ("none", "ct", "pt", "ctpt")
#: The safe loader in C where the wheel has it: a site of a hundred devices is read ten times faster.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a point stands. Modbus: table, register, type, bit. DL/T 645: di, index of a block. CJ/T 188: field."""

    table: str = ""
    register: int = 0
    type: str = "u16"
    bit: int = 0
    di: int = 0
    index: int = 0
    field: str = ""

    @property
    def width(self) -> int:
        """Registers (or coils) the value covers."""
        return WIDTH[self.type]


@dataclass(frozen=True, slots=True)
class Condition:
    """A threshold on a point, canonical unit; exactly one of `above`, `below` is set."""

    point: str
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """True when the value is beyond the threshold."""
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)


@dataclass(frozen=True, slots=True)
class Write:
    """How a point is written and its effect read back; bounds canonical, `mapping` written value -> accepted read-backs."""

    address: Address
    low: float
    high: float
    verify_within_s: float
    verify_point: str
    tolerance: float
    mapping: Mapping[float, tuple[float, ...]] = field(default_factory=dict)
    pulse: bool = False

    def expected(self, value: float) -> tuple[float, ...]:
        """The read-backs that prove `value`."""
        return self.mapping.get(value, (value,))

    def proves(self, value: float, readback: float) -> bool:
        """True when `readback` proves that `value` took effect."""
        return any(abs(readback - wanted) <= self.tolerance for wanted in self.expected(value))


@dataclass(frozen=True, slots=True)
class PointSpec:
    """A point of a device; everything but `scale` and `offset` is canonical."""

    point: Point
    address: Address
    scale: float
    offset: float
    unit_factor: float
    unit_offset: float
    resolution: float
    deadband: float
    max_silent_s: float
    low: float
    high: float
    ratio: str = "none"
    write: Write | None = None
    sample_raw: Any = None
    sample_value: float | None = None

    @property
    def key(self) -> str:
        """Canonical name."""
        return self.point.key

    def canonical(self, wire: float, *, ratio: float = 1.0) -> float:
        """Number on the wire -> canonical unit."""
        return (wire * self.scale + self.offset) * ratio * self.unit_factor + self.unit_offset

    def wire(self, value: float, *, ratio: float = 1.0) -> float:
        """Canonical unit -> number on the wire."""
        return ((value - self.unit_offset) / self.unit_factor / ratio - self.offset) / self.scale


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a sequence: write `value` to `set`, or wait for `wait` within `within_s`."""

    set: str = ""
    value: float = 0.0
    wait: Condition | None = None
    within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Interlock:
    """A rule judged at the instant of writing."""

    id: str
    when: Condition
    forbid_start: bool
    forbid: tuple[Condition, ...]
    force: Mapping[str, float]
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Frost:
    """Frost protection of one device; acts below `below`, lets go above `release_above`."""

    point: str
    below: float
    release_above: float
    act: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A threshold alarm every device of this type is born with."""

    id: str
    point: str
    when: str
    limit: float
    hysteresis: float
    delay_s: float
    severity: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Template:
    """A device type."""

    name: str
    version: int
    profile: str
    maker: str
    model: str
    zh: str
    en: str
    protocol: str
    link: Mapping[str, Any]
    poll_s: float
    points: Mapping[str, PointSpec]
    start: tuple[Step, ...]
    stop: tuple[Step, ...]
    safe_state: Mapping[str, float]
    interlocks: tuple[Interlock, ...]
    frost: Frost | None
    alarms: tuple[Alarm, ...]
    sample_frame: str = ""


def names() -> list[str]:
    """The templates that ship with the agent."""
    return sorted(p.stem for p in DEVICES.glob("*.yaml"))


@cache
def builtin(name: str) -> Template:
    """A template that ships with the agent.

    Raises:
        TemplateError: unknown or wrong.
    """
    path = DEVICES / f"{name}.yaml"
    if name not in names():
        raise TemplateError(file=f"{name}.yaml", line=0, field="template", problem=f"unknown; known are {', '.join(names())}")
    return parse(path.read_text(encoding="utf-8"), file=path.name)


def load(path: Path) -> Template:
    """A template from any file.

    Raises:
        TemplateError: wrong.
    """
    return parse(path.read_text(encoding="utf-8"), file=path.name)


def parse(text: str, *, file: str = "template") -> Template:
    """YAML text -> template.

    Raises:
        TemplateError: with file, line, field and problem.
    """
    try:
        node = yaml.compose(text, Loader=LOADER)
        data = yaml.load(text, Loader=LOADER)  # noqa: S506  # nosec B506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise TemplateError(file=file, line=mark.line + 1 if mark else 0, field="", problem="not YAML") from None
    lines: dict[tuple[str | int, ...], int] = {}
    if node is not None:
        _lines(node, (), lines)
    return _Reader(file, lines).template(_Cursor((), data))


def override(spec: PointSpec, changes: Mapping[str, Any]) -> PointSpec:
    """A point with a site's own limits: deadband, max_silent_s, low, high, verify_within_s.

    Raises:
        TemplateError: unknown field or not a number.
    """
    allowed = ("deadband", "max_silent_s", "low", "high", "resolution")
    values = {name: getattr(spec, name) for name in spec.__slots__}
    for name, value in changes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TemplateError(file="site.yaml", line=0, field=f"points.{spec.key}.{name}", problem="must be a number")
        if name in allowed:
            values[name] = float(value)
        elif name == "verify_within_s" and spec.write is not None:
            write = {slot: getattr(spec.write, slot) for slot in spec.write.__slots__} | {"verify_within_s": float(value)}
            values["write"] = Write(**write)
        else:
            raise TemplateError(file="site.yaml", line=0, field=f"points.{spec.key}.{name}", problem=f"cannot be overridden; allowed are {', '.join(allowed)}, verify_within_s")
    return PointSpec(**values)


def _lines(node: yaml.Node, path: tuple[str | int, ...], out: dict[tuple[str | int, ...], int]) -> None:
    out[path] = node.start_mark.line + 1
    if len(path) > MAX_DEPTH:
        return  # nothing of ours lies deeper; an anchor that contains itself ends here
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _lines(value, (*path, str(key.value)), out)
    elif isinstance(node, yaml.SequenceNode):
        for k, value in enumerate(node.value):
            _lines(value, (*path, k), out)


_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class _Cursor:
    path: tuple[str | int, ...]
    data: Any

    def to(self, key: str | int) -> _Cursor:
        if isinstance(self.data, dict):
            return _Cursor((*self.path, key), self.data.get(key, _MISSING))
        return _Cursor((*self.path, key), self.data[key] if isinstance(self.data, list) and isinstance(key, int) else _MISSING)

    @property
    def there(self) -> bool:
        return self.data is not _MISSING and self.data is not None


class _Reader:
    """Checks while it reads; keeps the map path -> line for its complaints."""

    def __init__(self, file: str, lines: Mapping[tuple[str | int, ...], int]) -> None:
        self._file, self._lines = file, lines
        self._points: dict[str, PointSpec] = {}

    def template(self, at: _Cursor) -> Template:
        self._mapping(at, {"template", "version", "profile", "maker", "model", "name", "protocol", "link", "poll_s", "points", "sequences", "safe_state",
                           "interlocks", "frost", "alarms", "sample_frame", "dangerous"})  # dangerous: judged by the platform, which asks a second person
        protocol = self._choice(at.to("protocol"), PROTOCOLS)
        rows = self._list(at.to("points"))
        if not rows:
            self._fail(at.to("points"), "needs at least one point")
        for row in rows:
            spec = self._point(row, protocol)
            if spec.key in self._points:
                self._fail(row.to("point"), f"{spec.key} stands twice")
            self._points[spec.key] = spec
        for row in rows:
            self._known(row.to("write").to("verify").to("point"), optional=True)
        sequences = at.to("sequences")
        names_ = at.to("name")
        return Template(
            name=self._text(at.to("template")), version=int(self._number(at.to("version"), 1, 1e6)), profile=self._text(at.to("profile")),
            maker=self._text(at.to("maker")), model=self._text(at.to("model")), zh=self._text(names_.to("zh")), en=self._text(names_.to("en")),
            protocol=protocol, link=at.to("link").data if at.to("link").there else {}, poll_s=self._number(at.to("poll_s"), 0.1, 86_400),
            points=dict(self._points), start=self._steps(sequences.to("start")), stop=self._steps(sequences.to("stop")),
            safe_state=self._writes(at.to("safe_state")), interlocks=tuple(self._interlock(row) for row in self._list(at.to("interlocks"))),
            frost=self._frost(at.to("frost")), alarms=tuple(self._alarm(row) for row in self._list(at.to("alarms"))),
            sample_frame=self._text(at.to("sample_frame"), default=""))

    def _point(self, at: _Cursor, protocol: str) -> PointSpec:
        self._mapping(at, {"point", "address", "scale", "offset", "unit", "resolution", "deadband", "max_silent_s", "low", "high", "writable", "write", "ratio", "sample"})
        key = self._text(at.to("point"))
        point = BY_KEY.get(key)
        if point is None:
            self._fail(at.to("point"), f"{key} is not in the point catalogue")
        assert point is not None
        unit = self._text(at.to("unit"), default=point.unit)
        try:
            factor, shift = (1.0, 0.0) if unit == point.unit else conversion(unit, point.unit)
        except UnitError as error:
            self._fail(at.to("unit"), error.message("en"))
            raise
        scale = self._number(at.to("scale"), -1e12, 1e12, default=1.0)
        if scale == 0:
            self._fail(at.to("scale"), "must not be 0")
        low, high = self._number(at.to("low"), -1e15, 1e15, default=point.low), self._number(at.to("high"), -1e15, 1e15, default=point.high)
        if low >= high:
            self._fail(at.to("low"), "must be less than high")
        resolution = self._number(at.to("resolution"), 0, 1e9, default=point.resolution)
        address = self._address(at.to("address"), protocol)
        writable = at.to("writable")
        if writable.there and not isinstance(writable.data, bool):
            self._fail(writable, "must be true or false")
        write = self._write(at.to("write"), key, address, protocol, low, high) if writable.there and writable.data else None
        sample = at.to("sample")
        return PointSpec(
            point, address, scale, self._number(at.to("offset"), -1e12, 1e12, default=0.0), factor, shift, resolution,
            self._number(at.to("deadband"), 0, 1e12, default=resolution), self._number(at.to("max_silent_s"), 1, 86_400, default=900.0), low, high,
            self._choice(at.to("ratio"), RATIOS, default="none"), write, sample.to("raw").data if sample.to("raw").there else None,
            self._number(sample.to("value"), -1e15, 1e15) if sample.there else None)

    def _address(self, at: _Cursor, protocol: str) -> Address:
        if protocol == "modbus":
            self._mapping(at, {"table", "register", "type", "bit"})
            table = self._choice(at.to("table"), TABLES)
            kind = self._choice(at.to("type"), tuple(WIDTH))
            if table in {"coil", "discrete"} and kind != "bit":
                self._fail(at.to("type"), f"a {table} is a bit")
            return Address(table=table, register=int(self._number(at.to("register"), 0, 65_535)), type=kind, bit=int(self._number(at.to("bit"), 0, 15, default=0)))
        if protocol == "dlt645":
            self._mapping(at, {"di", "index"})
            return Address(di=int(self._number(at.to("di"), 0, 0xFFFFFFFF)), index=int(self._number(at.to("index"), 0, 63, default=0)))
        self._mapping(at, {"field"})
        return Address(field=self._text(at.to("field")))

    def _write(self, at: _Cursor, key: str, address: Address, protocol: str, low: float, high: float) -> Write:
        self._mapping(at, {"address", "low", "high", "verify_within_s", "verify", "pulse"})
        if address.table in {"input", "discrete"} and not at.to("address").there:
            self._fail(at, f"{key} reads from a {address.table}; give write.address")
        verify = at.to("verify")
        mapping: dict[float, tuple[float, ...]] = {}
        if verify.to("map").there:
            self._mapping(verify.to("map"), None)
            for value, seen in verify.to("map").data.items():
                wanted = seen if isinstance(seen, list) else [seen]
                if not all(isinstance(v, int | float) for v in (value, *wanted)):
                    self._fail(verify.to("map"), "maps numbers to numbers")
                mapping[float(value)] = tuple(float(v) for v in wanted)
        return Write(
            self._address(at.to("address"), protocol) if at.to("address").there else address, self._number(at.to("low"), low, high, default=low),
            self._number(at.to("high"), low, high, default=high), self._number(at.to("verify_within_s"), 0.1, 86_400),
            self._text(verify.to("point"), default=key), self._number(verify.to("tolerance"), 0, 1e9, default=0.0), mapping,
            pulse=bool(at.to("pulse").there and at.to("pulse").data))

    def _steps(self, at: _Cursor) -> tuple[Step, ...]:
        out = []
        for row in self._list(at):
            self._mapping(row, {"set", "value", "wait"})
            if row.to("wait").there:
                condition = self._condition(row.to("wait"), {"within_s"})
                out.append(Step(wait=condition, within_s=self._number(row.to("wait").to("within_s"), 0.1, 86_400)))
            else:
                out.append(Step(set=self._writable(row.to("set")), value=self._number(row.to("value"), -1e12, 1e12)))
        return tuple(out)

    def _condition(self, at: _Cursor, more: set[str] | None = None) -> Condition:
        self._mapping(at, {"point", "above", "below"} | (more or set()))
        above, below = at.to("above"), at.to("below")
        if above.there == below.there:
            self._fail(at, "needs exactly one of above, below")
        return Condition(self._known(at.to("point")), self._number(above, -1e15, 1e15) if above.there else None, self._number(below, -1e15, 1e15) if below.there else None)

    def _interlock(self, at: _Cursor) -> Interlock:
        self._mapping(at, {"id", "when", "forbid", "force", "zh", "en"})
        start, forbid = False, []
        for row in self._list(at.to("forbid")):
            if row.data == "start":
                start = True
            else:
                condition = self._condition(row)
                self._writable(row.to("point"))
                forbid.append(condition)
        return Interlock(self._text(at.to("id")), self._condition(at.to("when")), start, tuple(forbid), self._writes(at.to("force")), self._text(at.to("zh")), self._text(at.to("en")))

    def _frost(self, at: _Cursor) -> Frost | None:
        if not at.there:
            return None
        self._mapping(at, {"point", "below", "release_above", "act"})
        below = self._number(at.to("below"), -60, 60)
        act = self._writes(at.to("act"))
        if not act:
            self._fail(at.to("act"), "must say what to do")
        return Frost(self._known(at.to("point")), below, self._number(at.to("release_above"), below, 100, default=below + 2), act)

    def _alarm(self, at: _Cursor) -> Alarm:
        self._mapping(at, {"id", "point", "when", "limit", "hysteresis", "delay_s", "severity", "zh", "en"})
        return Alarm(self._text(at.to("id")), self._known(at.to("point")), self._choice(at.to("when"), ("above", "below")), self._number(at.to("limit"), -1e15, 1e15),
                     self._number(at.to("hysteresis"), 0, 1e12, default=0.0), self._number(at.to("delay_s"), 0, 86_400, default=0.0),
                     self._choice(at.to("severity"), SEVERITIES), self._text(at.to("zh")), self._text(at.to("en")))

    def _writes(self, at: _Cursor) -> dict[str, float]:
        if not at.there:
            return {}
        self._mapping(at, None)
        out = {}
        for key in at.data:
            self._writable(_Cursor((*at.path, key), key))
            out[str(key)] = self._number(at.to(key), -1e12, 1e12)
        return out

    def _known(self, at: _Cursor, *, optional: bool = False) -> str:
        if optional and not at.there:
            return ""
        key = self._text(at)
        if key not in self._points:
            self._fail(at, f"{key} is not a point of this template")
        return key

    def _writable(self, at: _Cursor) -> str:
        key = self._known(at)
        if self._points[key].write is None:
            self._fail(at, f"{key} is not writable")
        return key

    def _text(self, at: _Cursor, *, default: str | None = None) -> str:
        if not at.there and default is not None:
            return default
        if not isinstance(at.data, str) or (not at.data and default is None):
            self._fail(at, "must be text" if at.there else "is missing")
        return str(at.data)

    def _number(self, at: _Cursor, low: float, high: float, *, default: float | None = None) -> float:
        if not at.there and default is not None:
            return default
        if isinstance(at.data, bool) or not isinstance(at.data, int | float) or not math.isfinite(at.data):
            self._fail(at, "must be a number" if at.there else "is missing")
        if not low <= at.data <= high:
            self._fail(at, f"must lie within [{low:g}, {high:g}]")
        return float(at.data)

    def _choice(self, at: _Cursor, allowed: tuple[str, ...], *, default: str | None = None) -> str:
        if not at.there and default is not None:
            return default
        if at.data not in allowed:
            self._fail(at, f"must be one of {', '.join(allowed)}")
        return str(at.data)

    def _list(self, at: _Cursor) -> list[_Cursor]:
        if not at.there:
            return []
        if not isinstance(at.data, list):
            self._fail(at, "must be a list")
        return [at.to(k) for k in range(len(at.data))]

    def _mapping(self, at: _Cursor, keys: set[str] | None) -> None:
        if not isinstance(at.data, dict):
            self._fail(at, "must be a mapping" if at.there else "is missing")
        if keys is not None:
            for key in at.data:
                if key not in keys:
                    self._fail(_Cursor((*at.path, str(key)), None), f"is unknown; known are {', '.join(sorted(keys))}")

    def _fail(self, at: _Cursor, problem: str) -> None:
        path = at.path
        while path and path not in self._lines:
            path = path[:-1]
        raise TemplateError(file=self._file, line=self._lines.get(path, 0), field=".".join(map(str, at.path)) or "(whole file)", problem=problem)
