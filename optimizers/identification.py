"""Building parameters from history (1R1C, 2R2C) with uncertainty; refuses to pretend when the data do not tell them apart.

Discrete energy-balance models fitted by output error (simulated throughout, never set back to what was measured), bounds from physics, uncertainty from the Jacobian.
Source: Bacher & Madsen 2011 (doi 10.1016/j.enbuild.2011.02.005) for the model classes. Must not know: devices, stores of history.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm
from scipy.optimize import least_squares

from optimizers.errors import OptimizerError, Words
from optimizers.rules import KNOWN_OR_NOT, Number, number, numbers
from optimizers.specification import Array, Building


class NotIdentifiedError(OptimizerError):
    """The data do not tell the parameters."""

    code = "E-NOT-IDENTIFIED"
    zh = "历史数据不足以辨识“{parameter}”：{problem}。请积累更多升降温过程，或沿用估计值。"
    en = "The history does not tell '{parameter}': {problem}. Collect more heating and cooling, or keep the estimate."


@dataclass(frozen=True, slots=True)
class Identified:
    """A fitted building.

    Attributes:
        values: parameter -> value, units as of `Building`.
        uncertainty: parameter -> standard uncertainty; inf = the data do not tell it (`solar_m2` is 0 then, no gain from the sun is planned with).
        rmse_k: of the simulated room temperature on the last quarter, which was not fitted.
        order: 1 or 2.
    """

    values: dict[str, float]
    uncertainty: dict[str, float]
    rmse_k: float
    order: int

    def building(self, name: str, room_c: float, **others: float) -> Building:
        """The building for a plan."""
        return Building(name, room_c=room_c, **{**self.values, **others})


_FIRST = ("capacity_kwh_k", "loss_kw_k", "solar_m2")
_SECOND = ("capacity_kwh_k", "loss_kw_k", "solar_m2", "mass_kwh_k", "coupling_kw_k")
_LEAST_H = 192.0


def identify(room_c: Array, heat_kw: Array, outdoor_c: Array, sun_kw_m2: Array, step_h: float, *, order: int = 2, largest: float = 0.35) -> Identified:
    """Fit one building.

    Args:
        room_c: (n,) at the end of each step (mean of the true rooms), NaN = missing.
        heat_kw: (n,) mean of the step; no gap.
        outdoor_c: (n,).
        sun_kw_m2: (n,).
        step_h: length of a step.
        order: 1 or 2; 2 falls back to 1 when the mass is not told by the data.
        largest: largest relative uncertainty of capacity and loss that still counts as known.

    Raises:
        NotIdentifiedError: too little data, a hole, too little movement, or parameters that cannot be told apart.
        InputError: arrays of other lengths, a step, order or limit that is none.
    """
    room_c = numbers("identify", "room_c", room_c, rule=KNOWN_OR_NOT)
    steps, step_h = len(room_c), number("identify", "step_h", step_h, Number(0, 24, above=True))
    order, largest = int(number("identify", "order", order, Number(1, 2, whole=True))), number("identify", "largest", largest, Number(0, 10))
    given = {"heat_kw": heat_kw, "outdoor_c": outdoor_c, "sun_kw_m2": sun_kw_m2}
    heat_kw, outdoor_c, sun_kw_m2 = (numbers("identify", field, row, (steps,), KNOWN_OR_NOT) for field, row in given.items())
    if steps * step_h < _LEAST_H:
        raise NotIdentifiedError(parameter="capacity_kwh_k", problem=f"{steps * step_h / 24:.0f} days; at least {_LEAST_H / 24:.0f} are needed")
    for field, series in (("heat_kw", heat_kw), ("outdoor_c", outdoor_c), ("sun_kw_m2", sun_kw_m2)):
        if not np.isfinite(series).all():
            where = int(np.argmin(np.isfinite(series)))
            raise NotIdentifiedError(parameter="capacity_kwh_k", problem=Words(f"'{field}' has a hole at step {where}: what happened then is unknown", f"“{field}”在第 {where} 步有缺口"))
    known = np.isfinite(room_c)
    if known[:steps * 3 // 4].sum() < _LEAST_H / step_h / 4:
        raise NotIdentifiedError(parameter="capacity_kwh_k", problem=Words(f"{int(known.sum())} of {steps} room temperatures are known", f"{steps} 个室温中仅有 {int(known.sum())} 个"))
    if float(np.nanstd(heat_kw)) < 0.02 * max(1e-9, float(np.nanmean(np.abs(heat_kw)))):
        raise NotIdentifiedError(parameter="capacity_kwh_k", problem="the heat never changes")
    if np.nanstd(room_c - outdoor_c) < 0.5:
        raise NotIdentifiedError(parameter="loss_kw_k", problem="the difference to outdoors never changes")
    train = steps * 3 // 4
    names = _SECOND if order == 2 else _FIRST
    loss = max(1e-3, float(np.nanmean(heat_kw)) / max(1.0, float(np.nanmean(room_c - outdoor_c))))
    begin = float(room_c[np.isfinite(room_c)][0])
    start = np.r_[np.log(np.array([loss * 20, loss, max(0.1, loss * 3), loss * 60, loss * 10])[:len(names)]), begin, begin - 1.0]

    def errors(guess: Array, last: int = train) -> Array:
        found = _simulated(np.exp(guess[:-2]), guess[-2:], heat_kw[:last], outdoor_c, sun_kw_m2, step_h) - room_c[:last]
        return np.asarray(np.nan_to_num(found))

    reach = np.r_[np.full(len(names), 5.0), 2.0, 8.0]
    fit = least_squares(errors, start, method="trf", x_scale="jac", max_nfev=200, bounds=(start - reach, start + reach))
    left = errors(fit.x)
    information = fit.jac.T @ fit.jac
    # Neighbouring errors are alike: count only as many as are independent.
    correlated = float(np.clip(np.corrcoef(left[:-1], left[1:])[0, 1], 0, 0.999))
    noise = float(left @ left) / max(1.0, len(left) - len(names)) * (1 + correlated) / (1 - correlated)
    inverse = np.linalg.pinv(information)
    spread = np.sqrt(np.maximum(0.0, np.diag(inverse) * noise))
    spread[np.diag(inverse @ information) < 0.99] = np.inf  # the data do not move with it at all: nothing is known of it
    held = errors(fit.x, steps)[train:]
    told = dict(zip(names, spread, strict=False))
    if order == 2 and (told["mass_kwh_k"] > 1.0 or told["coupling_kw_k"] > 1.0):
        return identify(room_c, heat_kw, outdoor_c, sun_kw_m2, step_h, order=1, largest=largest)
    for name in ("capacity_kwh_k", "loss_kw_k"):
        if not told[name] <= largest:
            raise NotIdentifiedError(parameter=name, problem=f"its uncertainty is {told[name]:.0%}")
    values = dict(zip(names, np.exp(fit.x).tolist(), strict=False))
    if not told["solar_m2"] <= 1.0:  # without sun in the data its gain is any number: none is handed out
        values["solar_m2"], told["solar_m2"] = 0.0, np.inf
    return Identified(values, {n: float(s if np.isinf(s) else values[n] * s) for n, s in told.items()}, float(np.sqrt(np.mean(held**2))), order)


def _simulated(values: Array, begin: Array, heat_kw: Array, outdoor_c: Array, sun_kw_m2: Array, step_h: float) -> Array:
    """Room temperature at the end of each step, simulated from (room, mass) without looking at what was measured."""
    capacity, loss, solar = values[:3]
    mass, link = (values[3], values[4]) if len(values) > 3 else (1.0, 0.0)
    big = np.zeros((4, 4))
    big[:2, :2] = [[-(loss + link) / capacity, link / capacity], [link / mass, -link / mass]]
    big[0, 2:] = [1 / capacity, loss / capacity]
    exact = expm(big * step_h)
    steps = len(heat_kw)
    push = np.outer(heat_kw + solar * sun_kw_m2[:steps], exact[:2, 2]) + np.outer(outdoor_c[:steps], exact[:2, 3])
    a, b, c, d = exact[:2, :2].ravel().tolist()
    room, wall = begin.tolist()
    out = []
    for to_room, to_wall in push.tolist():
        room, wall = a * room + b * wall + to_room, c * room + d * wall + to_wall
        out.append(room)
    return np.array(out)
