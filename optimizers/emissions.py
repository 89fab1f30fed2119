"""Emissions and efficiencies (碳排放、能效): factor tables by year, region and kind, counterfactuals, heat balances with uncertainty. Pure arithmetic.

Factors: China, MEE/NBS notices for 2022 and 2023 (kg CO2/kWh). Southern and south-western regional values of 2023 are given as published in the press.
Must not know: meters, projects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimizers.errors import InputError, OptimizerError, Words
from optimizers.rules import ANY, Number, number, numbers, one_of
from optimizers.specification import Array

_ENERGY = Number(0, 1e12)


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
        InputError: a year that is none, a table of something else.
    """
    year = int(number("factor", "year", year, Number(1900, 2200, whole=True)))
    if not isinstance(table, Sequence) or not all(isinstance(f, Factor) for f in table):
        raise InputError(name="factor", field="table", problem=Words("not a table of factors", "不是排放因子表"))
    fitting = [f for f in table if f.region == region and f.kind == kind and f.year <= year]
    if not fitting:
        raise FactorError(year=year, region=region, kind=kind)
    return max(fitting, key=lambda f: f.year)


def ledger(grid_kwh: Array, pv_kwh: Array, green_kwh: Array, kg_kwh: float) -> dict[str, Array]:
    """Interval carbon ledger: kg of the grid's energy (location based), of it without certified green energy (market based), and the renewable share.

    All arrays kWh, one value an interval; `green_kwh` is covered by certificates of the same interval.

    Raises:
        InputError: arrays of other lengths, energy or a factor that is negative or no number.
    """
    grid_kwh = numbers("ledger", "grid_kwh", grid_kwh, rule=_ENERGY)
    pv_kwh, green_kwh = (numbers("ledger", field, values, (len(grid_kwh),), _ENERGY) for field, values in (("pv_kwh", pv_kwh), ("green_kwh", green_kwh)))
    kg_kwh = number("ledger", "kg_kwh", kg_kwh, Number(0, 10))
    used = grid_kwh + pv_kwh
    covered = np.minimum(green_kwh, grid_kwh)
    return {"location_kg": grid_kwh * kg_kwh, "market_kg": (grid_kwh - covered) * kg_kwh, "renewable_share": np.divide(pv_kwh + covered, used, out=np.zeros_like(used), where=used > 0)}


def displaced(heat_kwh: float, actual_kg: float, *, boiler_efficiency: float = 0.70, coal_kg_kwh: float = 0.341) -> float:
    """Kilograms of CO2 not emitted against a declared counterfactual: the same heat from a coal boiler (0.341 kg/kWh of fuel, IPCC 2006 default for bituminous coal).

    Raises:
        InputError: a figure that cannot be.
    """
    heat_kwh, actual_kg, coal_kg_kwh = (number("displaced", field, value, _ENERGY) for field, value in (("heat_kwh", heat_kwh), ("actual_kg", actual_kg), ("coal_kg_kwh", coal_kg_kwh)))
    boiler_efficiency = number("displaced", "boiler_efficiency", boiler_efficiency, Number(0, 1.2, above=True))
    return heat_kwh / boiler_efficiency * coal_kg_kwh - actual_kg


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its standard uncertainty."""

    value: float
    uncertainty: float


def efficiency(out_kwh: float, in_kwh: float, *, out_class: float = 0.03, in_class: float = 0.01) -> Ratio:
    """Heat out over electricity in; meter classes as relative limits of error (uniform), GUM.

    Raises:
        InputError: nothing went in, or a figure that cannot be.
    """
    out_kwh, in_kwh = number("efficiency", "out_kwh", out_kwh, _ENERGY), number("efficiency", "in_kwh", in_kwh, Number(0, 1e12, above=True))
    out_class, in_class = number("efficiency", "out_class", out_class, Number(0, 1)), number("efficiency", "in_class", in_class, Number(0, 1))
    value = out_kwh / in_kwh
    return Ratio(value, value * float(np.hypot(out_class, in_class)) / np.sqrt(3))


def round_trip(charged_kwh: Array, discharged_kwh: Array, content_first_kwh: float, content_last_kwh: float) -> float:
    """Store's round trip: what came out and what it gained, over what went in; NaN when nothing did.

    Raises:
        InputError: arrays of other lengths, energy that is negative or no number.
    """
    charged_kwh = numbers("round_trip", "charged_kwh", charged_kwh, rule=_ENERGY)
    discharged_kwh = numbers("round_trip", "discharged_kwh", discharged_kwh, (len(charged_kwh),), _ENERGY)
    content_first_kwh, content_last_kwh = (number("round_trip", field, value, _ENERGY) for field, value in (("content_first_kwh", content_first_kwh), ("content_last_kwh", content_last_kwh)))
    put = float(charged_kwh.sum())
    return (float(discharged_kwh.sum()) + content_last_kwh - content_first_kwh) / put if put > 0 else float("nan")


def grade(found: Ratio, limits: Mapping[str, float]) -> tuple[str, float]:
    """(grade, probability that the true value reaches it): grades by lower limit, best first.

    Raises:
        InputError: a ratio or limit that is no number.
    """
    one_of("grade", "found", found, (Ratio,))
    number("grade", "found.value", found.value, ANY)
    number("grade", "found.uncertainty", found.uncertainty, Number())
    one_of("grade", "limits", limits, (Mapping,))
    for key, limit in limits.items():
        number("grade", f"limits.{key}", limit, ANY)
    from scipy.stats import norm

    for name, limit in sorted(limits.items(), key=lambda i: -i[1]):
        if found.value >= limit:
            return name, float(norm.cdf((found.value - limit) / max(1e-12, found.uncertainty)))
    return "", 0.0
