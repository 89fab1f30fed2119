"""COP of a heat pump from its history, as `specification.Performance`, with uncertainty; refuses to pretend when the data do not tell it.

COP = c0 + c1 source + c2 supply, less frost (the form of hplib, CC BY 4.0), by least squares weighted with power; neighbouring errors are alike, so only as many
hours count as are independent. What a season does not vary is kept from before and named. Must not know: meters, stores of history.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from optimizers.identification import NotIdentifiedError
from optimizers.rules import KNOWN_OR_NOT, Number, number, numbers, one_of, refuse
from optimizers.specification import Array, Performance
from optimizers.validation import RULES

#: Fewest hours of running, least range (5th to 95th percentile, K) of a temperature whose effect shall be told, greatest uncertainty of the COP itself.
LEAST_H, LEAST_SOURCE_K, LEAST_SUPPLY_K, LARGEST = 72.0, 5.0, 3.0, 0.08
#: A step with less than this share of the greatest power is a start, a stop or a defrost.
_RUNNING = 0.25


@dataclass(frozen=True, slots=True)
class FittedPerformance:
    """A fitted heat pump.

    Attributes:
        performance: for `specification.HeatPump`; capacity as it was.
        uncertainty: standard uncertainty of cop[0..2]; 0 for what was kept.
        cop_uncertainty: relative, of the COP in the middle of the data.
        rmse: relative error of heat on the last quarter of the running hours, which was not fitted.
        kept: coefficients the data did not vary enough for, taken from before.
        hours: of running used.
    """

    performance: Performance
    uncertainty: tuple[float, float, float]
    cop_uncertainty: float
    rmse: float
    kept: tuple[str, ...]
    hours: float


def fit_cop(power_kw: Array, heat_kw: Array, source_c: Array, supply_c: Array, step_h: float, *, before: Performance = Performance()) -> FittedPerformance:  # noqa: B008  frozen
    """Fit the COP of one heat pump.

    Args:
        power_kw: (n,) electricity, mean of each step; NaN = missing (as in the others).
        heat_kw: (n,) heat given.
        source_c: (n,) source temperature (outdoor air, or brine).
        supply_c: (n,) supply temperature.
        step_h: length of a step.
        before: what is kept where the data say nothing, and the frost term.

    Raises:
        NotIdentifiedError: too few running hours, a source that never changes, meters that contradict physics, or a COP that stays uncertain.
        InputError: arrays of other lengths, a step that is none; SpecificationError: `before` cannot be.
    """
    power_kw = numbers("fit_cop", "power_kw", power_kw, rule=KNOWN_OR_NOT)
    given = {"heat_kw": heat_kw, "source_c": source_c, "supply_c": supply_c}
    heat_kw, source_c, supply_c = (numbers("fit_cop", field, values, (len(power_kw),), KNOWN_OR_NOT) for field, values in given.items())
    step_h = number("fit_cop", "step_h", step_h, Number(0, 24, above=True))
    one_of("fit_cop", "before", before, (Performance,))
    refuse("before", before, RULES[Performance])
    known = np.isfinite(power_kw) & np.isfinite(heat_kw) & np.isfinite(source_c) & np.isfinite(supply_c)
    power = np.where(known, power_kw, 0.0)
    running = known & (power > _RUNNING * float(np.quantile(power, 0.99)) if len(power) else known)
    hours = float(running.sum() * step_h)
    if hours < LEAST_H:
        raise NotIdentifiedError(parameter="cop", problem=f"{hours:.0f} h of running; at least {LEAST_H:.0f} are needed")
    e, q, source, supply = (np.asarray(v, np.float64)[running] for v in (power_kw, heat_kw, source_c, supply_c))
    mean = float(q.sum() / e.sum())
    if not 0.9 < mean < 9:
        raise NotIdentifiedError(parameter="cop", problem=f"heat over electricity is {mean:.2f}: check the meters")
    if _range(source) < LEAST_SOURCE_K:
        raise NotIdentifiedError(parameter="cop[1]", problem=f"the source moves by {_range(source):.1f} K; at least {LEAST_SOURCE_K:.0f} are needed")
    fitted = [0, 1, *([2] if _range(supply) >= LEAST_SUPPLY_K else [])]
    frost = 1 - before.defrost * np.clip(1 - np.abs(source) / 6.0, 0, 1)
    design = np.stack([np.ones(len(e)), source, supply], axis=1) * (e * frost)[:, None]  # heat per coefficient: power is the weight
    target = q - design[:, [k for k in range(3) if k not in fitted]] @ np.array([before.cop[k] for k in range(3) if k not in fitted])
    train = len(e) * 3 // 4
    x, y = design[:train, fitted], target[:train]
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    left = y - x @ solution
    alike = float(np.clip(np.corrcoef(left[:-1], left[1:])[0, 1], 0, 0.99)) if left.std() > 1e-12 else 0.0
    noise = float(left @ left) / max(1, train - len(fitted)) * (1 + alike) / (1 - alike)
    covariance = np.linalg.pinv(x.T @ x) * noise
    cop, spread = list(before.cop), [0.0, 0.0, 0.0]
    for place, k in enumerate(fitted):
        cop[k], spread[k] = float(solution[place]), float(np.sqrt(covariance[place, place]))
    middle = np.array([1.0, float(source.mean()), float(supply.mean())])
    at = middle[fitted]
    uncertain = float(np.sqrt(at @ covariance @ at) / max(1e-9, float(middle @ np.array(cop))))
    if not uncertain <= LARGEST:
        raise NotIdentifiedError(parameter="cop", problem=f"its uncertainty is {uncertain:.0%}")
    held = design[train:] @ np.array(cop) - q[train:]
    found = dataclasses.replace(before, cop=(cop[0], cop[1], cop[2]))
    kept = tuple(f"cop[{k}]" for k in range(3) if k not in fitted)
    return FittedPerformance(found, (spread[0], spread[1], spread[2]), uncertain, float(np.sqrt(np.mean(held**2)) / q[train:].mean()), kept, hours)


def _range(values: Array) -> float:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)
