"""The point catalogue (测点目录): every canonical point, its stable number, kind, unit and physical range.

A point is named without unit or maker; a device template maps registers onto these names. Numbers are part of
the contract: they are stored for years, so a number is never reused. Must not know: devices, projects, protocols.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cache


class Kind(enum.StrEnum):
    """What a point is: decides how it is sampled, rolled up and drawn."""

    GAUGE = "gauge"
    COUNTER = "counter"
    STATE = "state"
    SETPOINT = "setpoint"
    COMMAND = "command"
    ALARM = "alarm"


class Quality(enum.IntEnum):
    """Quality of one reading, one byte on the wire and in the store."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
    STALE = 3
    SUBSTITUTED = 4
    ESTIMATED = 5
    REDATED = 6


@dataclass(frozen=True, slots=True)
class Point:
    """One canonical point.

    Attributes:
        id: stable number, u16.
        key: canonical name, snake_case.
        kind: gauge, counter, state, setpoint, command or alarm.
        unit: canonical unit ("" for states and alarms).
        zh: label in Chinese (the field's term).
        en: label in English.
        low: smallest physically possible value.
        high: largest physically possible value.
        resolution: the instrument's usual resolution, for quantising; a template may say finer or coarser.
    """

    id: int
    key: str
    kind: Kind
    unit: str
    zh: str
    en: str
    low: float
    high: float
    resolution: float


_G, _C, _S, _P, _X, _A = Kind.GAUGE, Kind.COUNTER, Kind.STATE, Kind.SETPOINT, Kind.COMMAND, Kind.ALARM
_ROWS: tuple[tuple[int, str, Kind, str, str, str, float, float, float], ...] = (
    # electricity
    (1, "active_power", _G, "kW", "有功功率", "Active power", -1e6, 1e6, 0.1),
    (2, "active_power_a", _G, "kW", "A相有功功率", "Active power A", -1e6, 1e6, 0.01),
    (3, "active_power_b", _G, "kW", "B相有功功率", "Active power B", -1e6, 1e6, 0.01),
    (4, "active_power_c", _G, "kW", "C相有功功率", "Active power C", -1e6, 1e6, 0.01),
    (5, "reactive_power", _G, "kvar", "无功功率", "Reactive power", -1e6, 1e6, 0.1),
    (6, "apparent_power", _G, "kVA", "视在功率", "Apparent power", 0, 1e6, 0.1),
    (7, "power_factor", _G, "1", "功率因数", "Power factor", -1, 1, 0.001),
    (8, "frequency", _G, "Hz", "频率", "Frequency", 0, 100, 0.01),
    (11, "voltage_a", _G, "V", "A相电压", "Voltage A", 0, 1e6, 0.1),
    (12, "voltage_b", _G, "V", "B相电压", "Voltage B", 0, 1e6, 0.1),
    (13, "voltage_c", _G, "V", "C相电压", "Voltage C", 0, 1e6, 0.1),
    (14, "current_a", _G, "A", "A相电流", "Current A", -1e5, 1e5, 0.001),
    (15, "current_b", _G, "A", "B相电流", "Current B", -1e5, 1e5, 0.001),
    (16, "current_c", _G, "A", "C相电流", "Current C", -1e5, 1e5, 0.001),
    (20, "energy_import", _C, "kWh", "正向有功电能", "Energy import", 0, 1e12, 0.01),
    (21, "energy_import_t1", _C, "kWh", "尖电能", "Energy import, sharp", 0, 1e12, 0.01),
    (22, "energy_import_t2", _C, "kWh", "峰电能", "Energy import, peak", 0, 1e12, 0.01),
    (23, "energy_import_t3", _C, "kWh", "平电能", "Energy import, flat", 0, 1e12, 0.01),
    (24, "energy_import_t4", _C, "kWh", "谷电能", "Energy import, valley", 0, 1e12, 0.01),
    (25, "energy_export", _C, "kWh", "反向有功电能", "Energy export", 0, 1e12, 0.01),
    (26, "reactive_energy", _C, "kvarh", "无功电能", "Reactive energy", 0, 1e12, 0.01),
    (27, "demand", _G, "kW", "当前需量", "Demand", 0, 1e6, 0.0001),
    (28, "demand_max", _G, "kW", "最大需量", "Maximum demand", 0, 1e6, 0.0001),
    (29, "relay_state", _S, "", "继电器状态", "Relay state", 0, 1, 1),
    (30, "clock_error", _G, "s", "时钟偏差", "Clock error", -1e9, 1e9, 1),
    (31, "load_ratio", _G, "%", "负载率", "Load ratio", 0, 400, 0.1),
    # heat
    (40, "heat_energy", _C, "kWh", "累计热量", "Heat energy", 0, 1e12, 0.01),
    (41, "cooling_energy", _C, "kWh", "累计冷量", "Cooling energy", 0, 1e12, 0.01),
    (42, "heat_power", _G, "kW", "热功率", "Heat power", -1e6, 1e6, 0.01),
    (43, "flow", _G, "m3/h", "流量", "Flow", -1e5, 1e5, 0.0001),
    (44, "volume", _C, "m3", "累计流量", "Volume", 0, 1e12, 0.01),
    (45, "supply_temp", _G, "degC", "供水温度", "Supply temperature", -50, 200, 0.01),
    (46, "return_temp", _G, "degC", "回水温度", "Return temperature", -50, 200, 0.01),
    (47, "temp_difference", _G, "K", "供回水温差", "Temperature difference", -200, 200, 0.01),
    (48, "operating_hours", _C, "h", "累计工作时间", "Operating hours", 0, 1e9, 1),
    (49, "battery_low", _A, "", "电池欠压", "Battery low", 0, 1, 1),
    (50, "supply_pressure", _G, "kPa", "供水压力", "Supply pressure", 0, 1e4, 0.1),
    (51, "return_pressure", _G, "kPa", "回水压力", "Return pressure", 0, 1e4, 0.1),
    (52, "differential_pressure", _G, "kPa", "压差", "Differential pressure", -1e4, 1e4, 0.1),
    (53, "makeup_flow", _G, "m3/h", "补水流量", "Make-up flow", 0, 1e4, 0.001),
    (54, "makeup_volume", _C, "m3", "累计补水量", "Make-up volume", 0, 1e9, 0.001),
    (55, "tank_level", _G, "%", "水箱液位", "Tank level", 0, 100, 0.1),
    # sources
    (60, "run_state", _S, "", "运行状态", "Run state", 0, 255, 1),
    (61, "mode", _S, "", "运行模式", "Mode", 0, 255, 1),
    (62, "enable_command", _X, "", "启停命令", "Enable command", 0, 1, 1),
    (63, "leaving_temp", _G, "degC", "出水温度", "Leaving temperature", -50, 200, 0.1),
    (64, "entering_temp", _G, "degC", "进水温度", "Entering temperature", -50, 200, 0.1),
    (65, "leaving_temp_setpoint", _P, "degC", "出水温度设定", "Leaving temperature set-point", 0, 120, 0.1),
    (66, "power_limit_setpoint", _P, "kW", "功率上限设定", "Power limit set-point", 0, 1e6, 0.1),
    (67, "stage_count_on", _G, "1", "投入级数", "Stages on", 0, 1000, 1),
    (68, "stage_command", _X, "1", "级数命令", "Stage command", 0, 1000, 1),
    (69, "outlet_pressure", _G, "kPa", "出口压力", "Outlet pressure", 0, 1e4, 0.1),
    (70, "water_level", _G, "%", "水位", "Water level", 0, 100, 0.1),
    (71, "element_temp", _G, "degC", "元件温度", "Element temperature", -50, 1200, 0.1),
    (72, "run_hours", _C, "h", "运行小时", "Run hours", 0, 1e9, 0.01),
    (73, "start_count", _C, "1", "启动次数", "Start count", 0, 1e9, 1),
    (74, "fault_code", _S, "", "故障代码", "Fault code", 0, 65535, 1),
    (75, "local_manual", _S, "", "就地手动", "Local manual", 0, 1, 1),
    (76, "overheat_alarm", _A, "", "超温报警", "Overheat", 0, 1, 1),
    (77, "low_water_alarm", _A, "", "缺水报警", "Low water", 0, 1, 1),
    (78, "leakage_alarm", _A, "", "漏电报警", "Leakage current", 0, 1, 1),
    (79, "phase_loss_alarm", _A, "", "缺相报警", "Phase loss", 0, 1, 1),
    (80, "compressor_frequency", _G, "Hz", "压缩机频率", "Compressor frequency", 0, 400, 0.1),
    (81, "suction_temp", _G, "degC", "吸气温度", "Suction temperature", -80, 100, 0.1),
    (82, "discharge_temp", _G, "degC", "排气温度", "Discharge temperature", -50, 200, 0.1),
    (83, "suction_pressure", _G, "kPa", "吸气压力", "Suction pressure", 0, 1e4, 1),
    (84, "discharge_pressure", _G, "kPa", "排气压力", "Discharge pressure", 0, 1e4, 1),
    (85, "evaporator_temp", _G, "degC", "蒸发器温度", "Evaporator temperature", -80, 100, 0.1),
    (86, "defrost_state", _S, "", "除霜状态", "Defrost", 0, 1, 1),
    (87, "cop", _G, "1", "能效比", "COP", 0, 20, 0.01),
    (88, "heating_capacity", _G, "kW", "制热量", "Heating capacity", 0, 1e6, 0.1),
    (89, "reset_command", _X, "", "故障复位", "Fault reset", 0, 1, 1),
    # storage
    (100, "soc", _G, "%", "蓄热率", "State of charge", 0, 100, 0.1),
    (101, "stored_energy", _G, "kWh", "蓄热量", "Stored heat", -1e6, 1e7, 0.1),
    (102, "charge_power", _G, "kW", "蓄热功率", "Charge power", -1e6, 1e6, 0.1),
    (103, "discharge_power", _G, "kW", "放热功率", "Discharge power", -1e6, 1e6, 0.1),
    (104, "charge_enable", _X, "", "蓄热允许", "Charge enable", 0, 1, 1),
    (105, "core_temp", _G, "degC", "蓄热体温度", "Core temperature", -50, 1200, 0.1),
    # pumps, valves, rooms
    (130, "speed", _G, "%", "转速", "Speed", 0, 120, 0.1),
    (131, "speed_setpoint", _P, "%", "转速设定", "Speed set-point", 0, 100, 0.1),
    (132, "valve_state", _S, "", "阀门状态", "Valve state", 0, 2, 1),
    (133, "valve_command", _X, "", "阀门命令", "Valve command", 0, 1, 1),
    (134, "room_temp", _G, "degC", "室内温度", "Room temperature", -50, 80, 0.1),
    (135, "room_temp_setpoint", _P, "degC", "室温设定", "Room set-point", 0, 35, 0.1),
    (136, "on_time_total", _C, "s", "累计接通时间", "Valve-open time", 0, 1e10, 1),
    (137, "cycle_on_ratio", _G, "%", "周期接通比", "On ratio of the cycle", 0, 100, 0.1),
    (138, "lock_state", _S, "", "锁定状态", "Lock", 0, 1, 1),
    (139, "battery_voltage", _G, "V", "电池电压", "Battery voltage", 0, 100, 0.01),
    (140, "humidity", _G, "%", "相对湿度", "Relative humidity", 0, 100, 0.1),
    (141, "co2", _G, "ppm", "二氧化碳", "CO2", 0, 20000, 1),
    (142, "signal_strength", _G, "dBm", "信号强度", "Signal", -150, 0, 1),
    # weather, gateway, cabinet
    (160, "outdoor_temp", _G, "degC", "室外温度", "Outdoor temperature", -60, 60, 0.1),
    (161, "wind_speed", _G, "m/s", "风速", "Wind speed", 0, 100, 0.1),
    (162, "solar_irradiance", _G, "W/m2", "太阳辐照度", "Solar irradiance", 0, 1500, 1),
    (170, "cpu_load", _G, "%", "CPU 占用", "CPU load", 0, 100, 0.1),
    (171, "memory_used", _G, "%", "内存占用", "Memory used", 0, 100, 0.1),
    (172, "disk_used", _G, "%", "磁盘占用", "Disk used", 0, 100, 0.1),
    (173, "buffer_depth", _G, "1", "缓存深度", "Buffer depth", 0, 1e9, 1),
    (174, "clock_offset", _G, "s", "时钟偏移", "Clock offset", -1e9, 1e9, 0.001),
    (175, "cabinet_door", _A, "", "柜门开", "Cabinet door open", 0, 1, 1),
    (176, "cabinet_temp", _G, "degC", "柜内温度", "Cabinet temperature", -60, 100, 0.1),
    (177, "cabinet_humidity", _G, "%", "柜内湿度", "Cabinet humidity", 0, 100, 0.1),
    *((200 + k, f"layer_temp_{k}", _G, "degC", f"第{k}层温度", f"Layer {k} temperature", -50.0, 1200.0, 0.1) for k in range(1, 31)),
)

POINTS: tuple[Point, ...] = tuple(Point(*row) for row in _ROWS)
BY_ID: dict[int, Point] = {p.id: p for p in POINTS}
BY_KEY: dict[str, Point] = {p.key: p for p in POINTS}


@cache
def point(key: str) -> Point:
    """The catalogue entry of `key`; KeyError names an unknown one."""
    return BY_KEY[key]
