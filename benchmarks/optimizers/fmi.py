"""A plant not of our making as an FMI 2.0 co-simulation unit (FMU): load, set, step, read.

The C interface of the standard (fmi-standard.org, FMI 2.0.4, section 4) by ctypes, so that nothing needs installing; `peers/fmpy_drive` is the same drive by
FMPy, in an environment of its own, to check it. An FMU is native code: run only what you trust. Must not know: controllers.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree as ET

_OK, _WARNING = 0, 1
_STATUS = {2: "discard", 3: "error", 4: "fatal", 5: "pending"}
_LOGGER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
_ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_FINISHED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)


class FmuError(RuntimeError):
    """The FMU is not what it should be, or refused; the message says at what."""


class _Callbacks(ctypes.Structure):
    _fields_ = (("logger", _LOGGER), ("allocate", _ALLOCATE), ("free", _FREE), ("finished", _FINISHED), ("environment", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Variable:
    """A real variable: its reference, causality (input, output, parameter, local, ...), unit and start value."""

    name: str
    reference: int
    causality: str
    unit: str
    start: float | None


@dataclass(frozen=True, slots=True)
class Description:
    """What an FMU says of itself."""

    name: str
    guid: str
    library: str
    variables: dict[str, Variable]


def describe(xml: bytes) -> Description:
    """Read modelDescription.xml.

    Raises:
        FmuError: not FMI 2.0, or no co-simulation.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise FmuError(f"modelDescription.xml cannot be read: {error}") from error
    kind = root.find("CoSimulation")
    if root.get("fmiVersion") != "2.0" or kind is None:
        raise FmuError(f"FMI {root.get('fmiVersion')}, {'co-simulation' if kind is not None else 'no co-simulation'}: FMI 2.0 co-simulation is needed")
    variables = {}
    for entry in root.iterfind("ModelVariables/ScalarVariable"):
        real = entry.find("Real")
        if real is not None:
            start = real.get("start")
            variables[entry.attrib["name"]] = Variable(entry.attrib["name"], int(entry.attrib["valueReference"]), entry.get("causality", "local"), real.get("unit", ""), None if start is None else float(start))
    return Description(root.get("modelName", ""), root.get("guid", ""), kind.attrib["modelIdentifier"], variables)


class Fmu:
    """One instance of a co-simulation FMU. A context manager: it ends, and its files go, with it.

    Args:
        file: the .fmu.
        start: values set before it is initialised.

    Raises:
        FmuError: the file, its binary for this machine, or a call failed.
    """

    def __init__(self, file: Path, start: Mapping[str, float] | None = None) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="fmu-")
        self.time_s = 0.0
        self._instance: int | None = None
        try:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(self._home.name)
            self.description = describe((Path(self._home.name) / "modelDescription.xml").read_bytes())
            self._library = ctypes.CDLL(str(self._binary()))
            self._begin(start or {})
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            self.close()
            raise FmuError(f"{file}: {error}") from error
        except FmuError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the instance; safe to call again."""
        if self._instance is not None:
            self._call("fmi2Terminate")
            free = self._library.fmi2FreeInstance
            free.restype, free.argtypes = None, [ctypes.c_void_p]
            free(self._instance)
            self._instance = None
        self._home.cleanup()

    def set(self, values: Mapping[str, float]) -> None:
        """Set real variables by name."""
        references, count = self._references(list(values))
        self._call("fmi2SetReal", references, ctypes.c_size_t(count), (ctypes.c_double * count)(*values.values()))

    def get(self, names: Sequence[str]) -> dict[str, float]:
        """Read real variables by name."""
        references, count = self._references(names)
        found = (ctypes.c_double * count)()
        self._call("fmi2GetReal", references, ctypes.c_size_t(count), found)
        return dict(zip(names, found, strict=True))

    def step(self, seconds: float) -> None:
        """Simulate so long with the inputs as they stand."""
        self._call("fmi2DoStep", ctypes.c_double(self.time_s), ctypes.c_double(seconds), ctypes.c_int(1))
        self.time_s += seconds

    def _binary(self) -> Path:
        system = {"linux": "linux", "darwin": "darwin", "win32": "win"}[sys.platform] + ("64" if ctypes.sizeof(ctypes.c_void_p) == 8 else "32")
        suffix = {"linux": ".so", "darwin": ".dylib", "win32": ".dll"}[sys.platform]
        found = Path(self._home.name) / "binaries" / system / f"{self.description.library}{suffix}"
        if not found.exists():
            there = sorted(p.name for p in (Path(self._home.name) / "binaries").iterdir()) if (Path(self._home.name) / "binaries").exists() else []
            raise FmuError(f"no binary for {system} ({platform.machine()}); it has {', '.join(there) or 'none'}")
        return found

    def _begin(self, start: Mapping[str, float]) -> None:
        libc = ctypes.CDLL(None)
        libc.calloc.restype, libc.calloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
        libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
        self._said: list[str] = []
        # Kept for as long as the instance lives: C holds pointers to them.
        self._callbacks = _Callbacks(_LOGGER(lambda _e, _n, _s, _c, message: self._said.append((message or b"").decode(errors="replace"))),
                                     ctypes.cast(libc.calloc, _ALLOCATE), ctypes.cast(libc.free, _FREE), _FINISHED(lambda _e, _s: None), None)
        make = self._library.fmi2Instantiate
        make.restype = ctypes.c_void_p
        make.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(_Callbacks), ctypes.c_int, ctypes.c_int]
        resources = (Path(self._home.name) / "resources").as_uri().encode()
        self._instance = make(b"plant", 1, self.description.guid.encode(), resources, ctypes.byref(self._callbacks), 0, 0)
        if not self._instance:
            self._instance = None
            raise FmuError(f"it does not start: {'; '.join(self._said) or 'no reason given'}")
        self._call("fmi2SetupExperiment", ctypes.c_int(0), ctypes.c_double(0), ctypes.c_double(0), ctypes.c_int(0), ctypes.c_double(0))
        if start:
            self.set(start)
        self._call("fmi2EnterInitializationMode")
        self._call("fmi2ExitInitializationMode")

    def _references(self, names: Sequence[str]) -> tuple[Any, int]:
        unknown = [n for n in names if n not in self.description.variables]
        if unknown:
            raise FmuError(f"no real variable {', '.join(unknown)}; there are {', '.join(sorted(self.description.variables)[:20])}")
        return (ctypes.c_uint * len(names))(*(self.description.variables[n].reference for n in names)), len(names)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_int
        status = function(ctypes.c_void_p(self._instance), *arguments)
        if status not in (_OK, _WARNING):
            raise FmuError(f"{name} at {self.time_s:g} s: {_STATUS.get(status, status)}{': ' + self._said[-1] if self._said else ''}")
