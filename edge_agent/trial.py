"""Trying a template: its samples are decoded by the real drivers' code, a live device is read once.

Must not know: the spool, the uplink, commands.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edge_agent.drivers import cjt188, dlt645, modbus
from edge_agent.drivers.meters import heat_value
from edge_agent.errors import DeviceError, FrameError, SiteError
from edge_agent.templates import PointSpec, Template
from protos.batch import quantise


def samples(template: Template) -> list[dict[str, Any]]:
    """Decode every sample: {point, value, expected, ok}."""
    rows = []
    for spec in template.points.values():
        if spec.sample_value is None:
            continue
        try:
            value = quantise(_decode(template, spec), spec.resolution)
        except FrameError as error:
            rows.append({"point": spec.key, "expected": spec.sample_value, "error": error.reason, "ok": False})
            continue
        rows.append({"point": spec.key, "value": value, "unit": spec.point.unit, "expected": spec.sample_value, "ok": math.isclose(value, spec.sample_value, abs_tol=1e-9)})
    return rows


def _decode(template: Template, spec: PointSpec) -> float:
    if template.protocol == "modbus":
        return spec.canonical(modbus.decode(spec.address, spec.sample_raw, word_order=str(template.link.get("word_order", "big"))))
    if template.protocol == "dlt645":
        values = dlt645.decode_value(spec.address.di, bytes.fromhex(spec.sample_raw), edition=int(template.link.get("edition", 2007)))
        return spec.canonical(float(values[spec.address.index]))
    profile = cjt188.PROFILES[str(template.link.get("profile", "standard"))]
    return heat_value(cjt188.parse_heat(cjt188.decode(bytes.fromhex(template.sample_frame)), profile=profile), spec).value


async def read(site_file: Path, device: int) -> list[dict[str, Any]]:
    """Read a live device once: {point, value, unit, quality, ok}.

    Raises:
        SiteError: no such device.
    """
    from edge_agent.agent import make_units
    from edge_agent.config import load_site
    site = load_site(site_file)
    if device not in site.devices:
        raise SiteError(field="devices", problem=f"{device} is not there")
    unit = make_units(site)[device]
    try:
        values = await unit.driver.read(list(unit.site.device.points.values()))
    except DeviceError as error:
        return [{"device": device, "error": f"{error.code}.{error.reason}", "detail": error.values["detail"], "ok": False}]
    finally:
        await unit.driver.close()
    return [{"point": key, "value": None if math.isnan(v.value) else v.value, "unit": unit.site.device.points[key].point.unit, "quality": v.quality.name, "ok": True} for key, v in values.items()]
