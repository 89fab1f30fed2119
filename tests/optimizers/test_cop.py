"""The COP of a pump whose law is known is found within its uncertainty; what the data do not tell is refused or kept, by name."""

from __future__ import annotations

import numpy as np
import pytest

from optimizers.cop import fit_cop
from optimizers.identification import NotIdentifiedError
from optimizers.specification import Performance

TRUE = Performance(cop=(5.9, 0.095, -0.062), defrost=0.1)
BEFORE = Performance(defrost=0.1)


def season(seed: int, hours: int = 600, *, noise: float = 0.04, supply_k: float = 8.0, source_k: float = 6.0) -> tuple[np.ndarray, ...]:
    r = np.random.default_rng(seed)
    source = -3 + source_k * np.sin(np.arange(hours) / 24 * 2 * np.pi) + np.repeat(r.normal(0, source_k / 3, hours // 24 + 1), 24)[:hours]
    supply = 42 - supply_k / 12 * source + r.normal(0, supply_k / 8, hours)
    power = np.where(r.random(hours) < 0.7, r.uniform(20, 60, hours), r.uniform(0, 4, hours))
    cop = TRUE.at(source, supply)[0]
    return power, power * cop * (1 + r.normal(0, noise, hours)), source, supply


def test_the_law_is_found_within_its_uncertainty() -> None:
    beyond = 0
    for seed in range(30):
        power, heat, source, supply = season(seed)
        found = fit_cop(power, heat, source, supply, 1.0, before=BEFORE)
        truth, said = TRUE.at(np.array([-8.0, 0.0, 6.0]), np.array([48.0, 42.0, 38.0]))[0], found.performance.at(np.array([-8.0, 0.0, 6.0]), np.array([48.0, 42.0, 38.0]))[0]
        assert np.allclose(said, truth, rtol=0.05)
        beyond += any(abs(found.performance.cop[k] - TRUE.cop[k]) > 2 * found.uncertainty[k] for k in range(3))
        assert found.rmse < 0.06
        assert found.kept == ()
    assert beyond <= 6  # three figures at two standard uncertainties, thirty times


def test_a_supply_that_never_moves_keeps_its_coefficient_by_name() -> None:
    power, heat, source, supply = season(1, supply_k=0.0)
    found = fit_cop(power, heat, source, supply, 1.0, before=BEFORE)
    assert found.kept == ("cop[2]",)
    assert found.performance.cop[2] == BEFORE.cop[2]
    assert np.allclose(found.performance.at(source, supply)[0], TRUE.at(source, supply)[0], rtol=0.03)


def test_holes_are_left_out() -> None:
    power, heat, source, supply = season(2)
    heat[100:140] = np.nan
    power[200] = np.nan
    assert fit_cop(power, heat, source, supply, 1.0, before=BEFORE).hours < (power > 15).sum()


@pytest.mark.parametrize(("change", "says"), [
    ({"hours": 48}, "h of running"), ({"source_k": 0.3}, "the source moves by"), ({"noise": 3.0}, "uncertain")])
def test_what_the_data_do_not_tell_is_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(NotIdentifiedError) as refused:
        fit_cop(*season(3, **change), 1.0, before=BEFORE)  # type: ignore[arg-type]
    assert says in refused.value.en


def test_meters_that_contradict_physics_are_named() -> None:
    power, heat, source, supply = season(4)
    with pytest.raises(NotIdentifiedError) as refused:
        fit_cop(power, heat * 0.1, source, supply, 1.0)
    assert "check the meters" in refused.value.en
