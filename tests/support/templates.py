"""Small device templates for tests, in the edge's schema."""

from __future__ import annotations

from typing import Any


def boiler(version: int = 1) -> dict[str, Any]:
    """An electric boiler with a writable set-point and an alarm."""
    return {
        "template": "electric_boiler_test", "version": version, "profile": "electric_boiler", "maker": "test", "model": "B1",
        "name": {"zh": "电锅炉", "en": "Electric boiler"}, "protocol": "modbus",
        "points": [
            {"point": "active_power", "unit": "kW", "low": 0, "high": 2000, "resolution": 0.1, "max_silent_s": 60},
            {"point": "run_state", "max_silent_s": 60},
            {"point": "leaving_temp", "unit": "degC", "low": 0, "high": 110},
            {"point": "enable_command", "writable": True, "write": {"low": 0, "high": 1, "verify_within_s": 30}},
            {"point": "leaving_temp_setpoint", "unit": "degC", "writable": True, "write": {"low": 35, "high": 85, "verify_within_s": 20}},
        ],
        "alarms": [{"id": "over_temperature", "point": "leaving_temp", "when": "above", "limit": 95, "hysteresis": 3, "severity": "critical",
                    "zh": "出水超温", "en": "Over temperature"}],
    }


def room() -> dict[str, Any]:
    """A household valve with a room sensor."""
    return {
        "template": "room_test", "version": 1, "profile": "onoff_valve_controller", "maker": "test", "model": "R1",
        "name": {"zh": "通断控制器", "en": "On-off controller"}, "protocol": "modbus",
        "points": [
            {"point": "room_temp", "unit": "degC", "max_silent_s": 600},
            {"point": "valve_state", "max_silent_s": 600},
            {"point": "room_temp_setpoint", "unit": "degC", "writable": True, "write": {"low": 16, "high": 24, "verify_within_s": 180}},
        ],
    }


def tank() -> dict[str, Any]:
    """A stratified water tank."""
    return {
        "template": "tank_test", "version": 1, "profile": "heat_storage", "maker": "test", "model": "T1", "name": {"zh": "蓄热水箱", "en": "Tank"},
        "points": [{"point": f"layer_temp_{k}", "unit": "degC", "low": 0, "high": 110} for k in range(1, 9)]
        + [{"point": "soc"}, {"point": "charge_power"}, {"point": "discharge_power"}],
    }


def meter() -> dict[str, Any]:
    """An electricity meter."""
    return {
        "template": "meter_test", "version": 1, "profile": "electricity_meter", "maker": "test", "model": "M1", "name": {"zh": "电能表", "en": "Meter"},
        "points": [{"point": "active_power", "low": -5000, "high": 5000}, {"point": "energy_import"}, {"point": "power_factor"}],
    }


def heat_meter() -> dict[str, Any]:
    """A heat meter."""
    return {
        "template": "heat_meter_test", "version": 1, "profile": "heat_meter", "maker": "test", "model": "H1", "name": {"zh": "热量表", "en": "Heat meter"},
        "points": [{"point": "heat_power"}, {"point": "heat_energy"}, {"point": "flow"}, {"point": "supply_temp"}, {"point": "return_temp"}],
    }


def pump() -> dict[str, Any]:
    """A circulation pump."""
    return {
        "template": "pump_test", "version": 1, "profile": "circulation_pump", "maker": "test", "model": "P1", "name": {"zh": "循环泵", "en": "Pump"},
        "points": [{"point": "active_power"}, {"point": "run_state"}, {"point": "speed"},
                   {"point": "speed_setpoint", "writable": True, "write": {"low": 30, "high": 100, "verify_within_s": 30}}],
    }


def weather() -> dict[str, Any]:
    """A weather station."""
    return {"template": "weather_test", "version": 1, "profile": "weather", "maker": "test", "model": "W1", "name": {"zh": "气象站", "en": "Weather"},
            "points": [{"point": "outdoor_temp", "max_silent_s": 600}, {"point": "wind_speed"}]}
