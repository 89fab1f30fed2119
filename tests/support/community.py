"""Registers four small heated communities through the real service, from the edge's own templates."""

from __future__ import annotations

from pathlib import Path

import yaml

from cloud.functions.devices.service import DeviceService, NewDevice, NewProject
from cloud.ledger import Ledger

ROOT = Path(__file__).parents[2]


def register(ledger: Ledger, *, rooms: int = 24) -> dict[str, int]:
    """Register regions, templates, projects, agents, devices.

    Returns:
        Project id by code.
    """
    service = DeviceService(ledger, lambda: 1_700_000_000_000)
    service.register_region("bj", "北京", "Beijing")
    service.register_region("bj-sy", "顺义区", "Shunyi", "bj")
    for file in sorted((ROOT / "edge_agent" / "devices").glob("*.yaml")):
        service.register_template(yaml.safe_load(file.read_text()))
    ids = {}
    for code, zh, en, lat, lon, area, kind in (
            ("cuihu", "翠湖家园", "Cuihu Gardens", 40.128, 116.654, 18600.0, "boiler_storage"),
            ("yanqi", "雁栖里", "Yanqi Lane", 40.362, 116.671, 14200.0, "heat_pump"),
            ("beishan", "北山小区", "Beishan Court", 40.061, 116.431, 32500.0, "metered_district"),
            ("liulin", "柳林新村", "Liulin Village", 39.942, 117.011, 9800.0, "decentralised")):
        ids[code] = service.register_project(NewProject(code, zh, en, "bj-sy", lat, lon, area, kind))
        service.register_agent(f"edge-{code}", ids[code], signing_public=bytes(32), box_public=bytes(32), uplink="nats" if code == "yanqi" else "grpc",
                               certificate_serial="7A11")
    service.register_devices(ids["cuihu"], _boilers("edge-cuihu", rooms))
    service.register_devices(ids["yanqi"], _pumps("edge-yanqi", rooms))
    service.register_devices(ids["beishan"], _district("edge-beishan", rooms))
    service.register_devices(ids["liulin"], _heaters("edge-liulin", rooms * 2))
    return ids


def _common(agent: str) -> list[NewDevice]:
    return [
        NewDevice("TR1", "1号变压器", "Transformer 1", agent, "transformer_modbus", rated_kw=2500, location="配电室"),
        NewDevice("EM1", "总电能表", "Main meter", agent, "electricity_meter_dlt645", location="配电室"),
        NewDevice("WS1", "气象站", "Weather station", agent, "weather_station_modbus", location="屋顶"),
    ]


def _rooms(agent: str, n: int, template: str, kw: float) -> list[NewDevice]:
    found = []
    for k in range(n):
        floor, unit = 1 + k // 4, 1 + k % 4
        found.append(NewDevice(
            f"H{floor:02d}{unit:02d}", f"{1 + k // 12}号楼 {floor}0{unit}", f"Building {1 + k // 12}, {floor}0{unit}", agent, template,
            location=f"{1 + k // 12}号楼/{floor}层", rated_kw=kw, absent_points=() if k % 3 == 0 else ("room_temp",),
            attributes={"floor": floor, "unit": unit, "corner": unit in (1, 4), "top": k >= n - 4, "heated_area_m2": 86.0, "has_sensor": k % 3 == 0}))
    return found


def _boilers(agent: str, rooms: int) -> list[NewDevice]:
    return [
        *_common(agent),
        NewDevice("EB1", "1号电锅炉", "Boiler 1", agent, "electric_boiler_modbus", rated_kw=900, location="锅炉房"),
        NewDevice("EB2", "2号电锅炉", "Boiler 2", agent, "electric_boiler_modbus", rated_kw=900, location="锅炉房"),
        NewDevice("TK1", "蓄热水箱 60 m³", "Storage tank 60 m3", agent, "heat_storage_modbus", rated_kw=800, location="锅炉房"),
        NewDevice("CP1", "1号循环泵", "Pump 1", agent, "circulation_pump_modbus", rated_kw=22, location="锅炉房"),
        NewDevice("NL1", "二次网回路", "Secondary loop", agent, "network_loop_modbus", location="锅炉房"),
        NewDevice("HM1", "总热量表", "Main heat meter", agent, "heat_meter_cjt188", location="锅炉房"),
        *_rooms(agent, rooms, "onoff_valve_modbus", 0.0),
    ]


def _pumps(agent: str, rooms: int) -> list[NewDevice]:
    return [
        *_common(agent),
        *(NewDevice(f"HP{k}", f"{k}号空气源热泵", f"Heat pump {k}", agent, "heat_pump_modbus", rated_kw=140, location="屋顶") for k in (1, 2, 3)),
        NewDevice("TK1", "缓冲水箱", "Buffer tank", agent, "heat_storage_modbus", rated_kw=120, location="机房"),
        NewDevice("CP1", "1号循环泵", "Pump 1", agent, "circulation_pump_modbus", rated_kw=15, location="机房"),
        NewDevice("HM1", "总热量表", "Main heat meter", agent, "heat_meter_cjt188", location="机房"),
        *_rooms(agent, rooms, "onoff_valve_modbus", 0.0),
    ]


def _district(agent: str, meters: int) -> list[NewDevice]:
    return [
        NewDevice("EM1", "总电能表", "Main meter", agent, "electricity_meter_dlt645", location="换热站"),
        NewDevice("HM0", "总热量表", "Main heat meter", agent, "heat_meter_cjt188", location="换热站", attributes={"role": "main"}),
        *(NewDevice(f"HM{k}", f"{k}号楼热量表", f"Building {k} heat meter", agent, "heat_meter_cjt188", parent_code="HM0", location=f"{k}号楼")
          for k in range(1, meters + 1)),
    ]


def _heaters(agent: str, rooms: int) -> list[NewDevice]:
    return [*_common(agent), *_rooms(agent, rooms, "room_heater_modbus", 2.4)]
