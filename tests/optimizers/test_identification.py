"""Parameters of a made building are found within their uncertainty; data that do not tell them are refused."""

from __future__ import annotations

import numpy as np
import pytest

from optimizers.identification import NotIdentifiedError, identify


def made(*, mass: float, moving: bool = True, noise: float = 0.05, days: int = 16) -> tuple[np.ndarray, ...]:
    r = np.random.default_rng(3)
    n = days * 48
    hour = np.arange(n) * 0.5
    outdoor = -4 + 6 * np.sin((hour - 9) / 24 * 2 * np.pi) + np.repeat(r.normal(0, 3, days), 48)
    sun = np.clip(np.sin((hour % 24 - 6) / 12 * np.pi), 0, 1) * 0.4
    heat = 100 + 60 * np.sign(np.sin(hour / 7)) if moving else np.full(n, 100.0)
    room, wall = 20.0, 18.0
    out = np.empty(n)
    for k in range(n):
        for _ in range(60):
            dt = 0.5 / 60
            flow = 40.0 * (wall - room) if mass else 0.0
            room += dt * (heat[k] + 12.0 * sun[k] - 4.0 * (room - outdoor[k]) + flow) / 60.0
            wall += dt * -flow / mass if mass else 0.0
        out[k] = room
    return out + r.normal(0, noise, n), heat, outdoor, sun


def test_a_building_with_mass_is_found_within_its_uncertainty() -> None:
    found = identify(*made(mass=400.0), 0.5)
    assert found.order == 2
    for name, true in (("loss_kw_k", 4.0), ("capacity_kwh_k", 60.0), ("mass_kwh_k", 400.0)):
        assert abs(found.values[name] - true) <= max(4 * found.uncertainty[name], 0.12 * true), name
    assert found.rmse_k < 0.5


def test_a_building_without_mass_is_found_with_the_first_order() -> None:
    found = identify(*made(mass=0.0), 0.5, order=1)
    assert found.values["loss_kw_k"] == pytest.approx(4.0, rel=0.05)
    assert found.values["capacity_kwh_k"] == pytest.approx(60.0, rel=0.1)
    assert found.building("x", 20.0).loss_kw_k == found.values["loss_kw_k"]


@pytest.mark.parametrize(("data", "parameter"), [(made(mass=0.0, days=4), "capacity_kwh_k"), (made(mass=0.0, moving=False), "capacity_kwh_k")])
def test_data_that_do_not_tell_are_refused(data: tuple[np.ndarray, ...], parameter: str) -> None:
    with pytest.raises(NotIdentifiedError) as refused:
        identify(*data, 0.5)
    assert refused.value.facts["parameter"] == parameter


@pytest.mark.parametrize("sun", [0.0, 1e-6])
def test_a_gain_from_the_sun_that_the_data_cannot_show_is_none_and_told(sun: float) -> None:
    hours = 24 * 21
    rng = np.random.default_rng(5)
    outdoor = -5 + 6 * np.sin(np.arange(hours) / 24 * 2 * np.pi) + rng.normal(0, 1, hours)
    heat = np.where(np.arange(hours) % 12 < 6, 160.0, 40.0)
    room, seen = 20.0, []
    for k in range(hours):
        room += (heat[k] - 4.0 * (room - outdoor[k])) / 60.0
        seen.append(room + rng.normal(0, 0.02))
    found = identify(np.array(seen), heat, outdoor, np.where(np.arange(hours) == 40, sun, 0.0), 1.0, order=1)
    assert (found.values["solar_m2"], found.uncertainty["solar_m2"]) == (0.0, np.inf)
    assert found.values["loss_kw_k"] == pytest.approx(4.0, rel=0.1)
