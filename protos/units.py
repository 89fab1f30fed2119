"""Canonical units and the conversions into them; readings are converted once, at the driver's edge.

Stored: kW, kWh (electricity and heat), degC, K, m3/h, m3, kPa, %, V, A, Hz, kvar, kVA, h, s.
Must not know: points, devices, display languages.
"""

from __future__ import annotations

from protos.errors import KangError


class UnitError(KangError):
    """A unit is unknown, or cannot become the wanted canonical unit."""

    code = "E-UNIT"
    zh = "单位“{unit}”不能换算为“{canonical}”。请在设备模板中改用支持的单位。"
    en = "Unit '{unit}' cannot become '{canonical}'. Use a supported unit in the device template."


#: unit -> (canonical unit, factor, offset): canonical = value * factor + offset.
TO_CANONICAL: dict[str, tuple[str, float, float]] = {
    "kW": ("kW", 1.0, 0.0), "W": ("kW", 1e-3, 0.0), "MW": ("kW", 1e3, 0.0), "J/h": ("kW", 1 / 3.6e6, 0.0),
    "GJ/h": ("kW", 1e6 / 3600.0, 0.0),
    "kWh": ("kWh", 1.0, 0.0), "Wh": ("kWh", 1e-3, 0.0), "MWh": ("kWh", 1e3, 0.0),
    "J": ("kWh", 1 / 3.6e6, 0.0), "kJ": ("kWh", 1 / 3.6e3, 0.0), "MJ": ("kWh", 1 / 3.6, 0.0), "GJ": ("kWh", 1e3 / 3.6, 0.0),
    "degC": ("degC", 1.0, 0.0), "degF": ("degC", 5 / 9, -160 / 9), "K": ("K", 1.0, 0.0),
    "m3/h": ("m3/h", 1.0, 0.0), "L/h": ("m3/h", 1e-3, 0.0), "L/s": ("m3/h", 3.6, 0.0), "L/min": ("m3/h", 0.06, 0.0),
    "m3": ("m3", 1.0, 0.0), "L": ("m3", 1e-3, 0.0),
    "kPa": ("kPa", 1.0, 0.0), "Pa": ("kPa", 1e-3, 0.0), "bar": ("kPa", 100.0, 0.0), "MPa": ("kPa", 1e3, 0.0),
    "%": ("%", 1.0, 0.0), "1": ("1", 1.0, 0.0), "V": ("V", 1.0, 0.0), "kV": ("V", 1e3, 0.0), "A": ("A", 1.0, 0.0),
    "mA": ("A", 1e-3, 0.0), "Hz": ("Hz", 1.0, 0.0), "kvar": ("kvar", 1.0, 0.0), "kvarh": ("kvarh", 1.0, 0.0),
    "kVA": ("kVA", 1.0, 0.0), "h": ("h", 1.0, 0.0), "min": ("h", 1 / 60, 0.0), "s": ("s", 1.0, 0.0), "ppm": ("ppm", 1.0, 0.0),
    "W/m2": ("W/m2", 1.0, 0.0), "m/s": ("m/s", 1.0, 0.0), "rpm": ("rpm", 1.0, 0.0), "dBm": ("dBm", 1.0, 0.0), "m": ("m", 1.0, 0.0),
}


def conversion(unit: str, canonical: str) -> tuple[float, float]:
    """Return (factor, offset) with canonical = value * factor + offset.

    Raises:
        UnitError: `unit` is unknown or of another dimension.
    """
    known = TO_CANONICAL.get(unit)
    if known is None or known[0] != canonical:
        raise UnitError(unit=unit, canonical=canonical)
    return known[1], known[2]
