"""Emissions and efficiencies (碳排放、能效): factor tables by year, region and kind, counterfactuals, heat balances with uncertainty. Pure arithmetic.

Factors: China, MEE/NBS notices for 2022 and 2023 (kg CO2/kWh). Southern and south-western regional values of 2023 are given as published in the press.
Must not know: meters, projects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimizers.errors import OptimizerError
from optimizers.specification import Array


class FactorError(OptimizerError):
    """No factor for that year, region and kind."""

    code = "E-EMISSION-FACTOR"
    zh = "没有 {year} 年“{region}”的“{kind}”排放因子。请在因子表中补充。"
    en = "There is no '{kind}' factor for '{region}' in {year}. Add it to the factor table."


@dataclass(frozen=True, slots=True)
class Factor:
    """Kilograms of CO2 per kWh, and where it was published."""

    year: int
    region: str
    kind: str
    kg_kwh: float
    source: str


_SOURCE = "MEE/NBS notice"
FACTORS: tuple[Factor, ...] = (
    Factor(2022, "CN", "average", 0.5366, _SOURCE), Factor(2023, "CN", "average", 0.5306, _SOURCE), Factor(2023, "CN", "ex_market", 0.6096, _SOURCE), Factor(2023, "CN", "fossil", 0.8273, _SOURCE),
    Factor(2023, "CN-N", "average", 0.6361, _SOURCE), Factor(2023, "CN-NE", "average", 0.5122, _SOURCE), Factor(2023, "CN-E", "average", 0.5500, _SOURCE),
    Factor(2023, "CN-C", "average", 0.5271, _SOURCE), Factor(2023, "CN-NW", "average", 0.5543, _SOURCE), Factor(2023, "CN-S", "average", 0.4042, _SOURCE), Factor(2023, "CN-SW", "average", 0.2472, _SOURCE))


def factor(year: int, region: str, kind: str = "average", *, table: Sequence[Factor] = FACTORS) -> Factor:
    """The factor in force: of the year, else the newest before it.

    Raises:
        FactorError: there is none.
    """
    fitting = [f for f in table if f.region == region and f.kind == kind and f.year <= year]
    if not fitting:
        raise FactorError(year=year, region=region, kind=kind)
    return max(fitting, key=lambda f: f.year)


def ledger(grid_kwh: Array, pv_kwh: Array, green_kwh: Array, kg_kwh: float) -> dict[str, Array]:
    """Interval carbon ledger: kg of the grid's energy (location based), of it without certified green energy (market based), and the renewable share.

    All arrays kWh, one value an interval; `green_kwh` is covered by certificates of the same interval.
    """
    used = grid_kwh + pv_kwh
    covered = np.minimum(green_kwh, grid_kwh)
    return {"location_kg": grid_kwh * kg_kwh, "market_kg": (grid_kwh - covered) * kg_kwh, "renewable_share": np.divide(pv_kwh + covered, used, out=np.zeros_like(used), where=used > 0)}


def displaced(heat_kwh: float, actual_kg: float, *, boiler_efficiency: float = 0.70, coal_kg_kwh: float = 0.341) -> float:
    """Kilograms of CO2 not emitted against a declared counterfactual: the same heat from a coal boiler (0.341 kg/kWh of fuel, IPCC 2006 default for bituminous coal)."""
    return heat_kwh / boiler_efficiency * coal_kg_kwh - actual_kg


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its standard uncertainty."""

    value: float
    uncertainty: float


def efficiency(out_kwh: float, in_kwh: float, *, out_class: float = 0.03, in_class: float = 0.01) -> Ratio:
    """Heat out over electricity in; meter classes as relative limits of error (uniform), GUM.

    Raises:
        OptimizerError: nothing went in.
    """
    if in_kwh <= 0:
        raise OptimizerError
    value = out_kwh / in_kwh
    return Ratio(value, value * float(np.hypot(out_class, in_class)) / np.sqrt(3))


def round_trip(charged_kwh: Array, discharged_kwh: Array, content_first_kwh: float, content_last_kwh: float) -> float:
    """Store's round trip: what came out and what it gained, over what went in."""
    put = float(charged_kwh.sum())
    return (float(discharged_kwh.sum()) + content_last_kwh - content_first_kwh) / put if put > 0 else float("nan")


def grade(found: Ratio, limits: Mapping[str, float]) -> tuple[str, float]:
    """(grade, probability that the true value reaches it): grades by lower limit, best first."""
    from scipy.stats import norm

    for name, limit in sorted(limits.items(), key=lambda i: -i[1]):
        if found.value >= limit:
            return name, float(norm.cdf((found.value - limit) / max(1e-12, found.uncertainty)))
    return "", 0.0
