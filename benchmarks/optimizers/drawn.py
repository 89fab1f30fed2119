"""Random communities of every kind, ordinary and hostile, from a seed; tests use the same. Must not know: solvers."""

from __future__ import annotations

import dataclasses

import numpy as np

from optimizers.specification import Building, Community, ElectricBoiler, HeatPump, Prices, RoomHeaters, Storage


def ordinary(seed: int, steps: int = 96) -> Community:
    """A winter day (15 min steps) of a community with some of everything."""
    r = np.random.default_rng(seed)
    hour = np.arange(steps) * 0.25 % 24
    outdoor = -6 + r.normal(0, 4) + 5 * np.sin((hour - 9) / 24 * 2 * np.pi) + r.normal(0, 0.3, steps).cumsum() * 0.1
    sun = np.clip(np.sin((hour - 6) / 12 * np.pi), 0, 1) * r.uniform(0.1, 0.5)
    price = np.select([(hour < 7) | (hour >= 23), ((hour >= 10) & (hour < 15)) | ((hour >= 18) & (hour < 21))], [0.3, 1.0], 0.62) * r.uniform(0.8, 1.2)
    loss = r.uniform(3, 9)
    two = r.random() < 0.5
    need = loss * 28
    buildings = [Building("homes", loss * r.uniform(2, 4), loss * (0.5 if two else 1.0), r.uniform(19.5, 22), mass_kwh_k=loss * 20 if two else 0.0, coupling_kw_k=loss * 4 if two else 0.0,
                          mass_loss_kw_k=loss * 0.5 if two else 0.0, solar_m2=r.uniform(0, 100), gains_kw=r.uniform(0, 10), emitter_kw=need * 1.6)]
    sources: list[ElectricBoiler | HeatPump] = []
    if r.random() < 0.8:
        sources.append(ElectricBoiler("boiler", need * r.uniform(0.7, 1.5), 0.97, 0.25, int(r.integers(2, 5)) if r.random() < 0.3 else 0, 1.0, 1.0, 5.0, bool(r.integers(2)), float(r.uniform(0, 2))))
    if r.random() < 0.7 or not sources:
        sources.append(HeatPump("pump", need * r.uniform(0.5, 1.1), standby_kw=r.uniform(0, 2), start_yuan=3.0, on=bool(r.integers(2)), since_h=float(r.uniform(0, 2))))
    stores = [Storage("tank", need * r.uniform(2, 8), need * r.uniform(0.5, 2), need, need, reserve_kwh=need * 0.2 * float(r.integers(2)))] if r.random() < 0.7 else []
    rooms = [RoomHeaters("panels", 40, 1.0, "homes", 0.1)] if r.random() < 0.3 else []
    return Community(f"case {seed}", 0.25, Prices(price, export=0.2, demand=8.0 * float(r.integers(2)), peak_so_far_kw=need * 0.8), outdoor, buildings, sources, stores, rooms, sun, 45.0,
                     r.uniform(0, 30), sun * 60, need * 1.4, need * 2.2, 30.0)


def hostile(seed: int, steps: int = 96) -> Community:
    """The same, after something went wrong: cold start, little capacity, holes in forecasts, negative prices, an empty tank, limits that contradict each other."""
    r = np.random.default_rng(seed + 10_000)
    c = ordinary(seed, steps)
    homes = c.buildings[0]
    if r.random() < 0.5:
        homes = dataclasses.replace(homes, room_c=14.0 if r.random() < 0.9 else float("nan"))
    if r.random() < 0.2:
        homes = dataclasses.replace(homes, low_c=24.0, high_c=20.0)
    outdoor, price = c.outdoor_c.copy(), c.prices.energy.copy()
    if r.random() < 0.5:
        outdoor[r.integers(0, steps, 30)] = np.nan
    if r.random() < 0.1:
        outdoor[1:] = np.nan  # what is measured now is all there is
        outdoor[0] = c.outdoor_c[0]
    if r.random() < 0.4:
        price[r.integers(0, steps, 20)] = -0.3
    if r.random() < 0.2:
        price[r.integers(0, steps, 5)] = np.nan
    stores = [dataclasses.replace(s, energy_kwh=float(r.choice([0.0, -5.0, s.capacity_kwh * 1.2]))) for s in c.stores] if r.random() < 0.5 else list(c.stores)
    sources = [dataclasses.replace(s, available=0.6 if r.random() < 0.8 else 0.0) for s in c.sources] if r.random() < 0.6 else list(c.sources)
    limit = np.where(np.arange(steps) // 8 % 4 == 1, float(r.uniform(0, 50)), np.inf) if r.random() < 0.4 else None
    return dataclasses.replace(c, name=f"hostile {seed}", buildings=[homes], outdoor_c=outdoor - (8 if r.random() < 0.3 else 0), prices=dataclasses.replace(c.prices, energy=price), stores=stores,
                               sources=sources, limit_kw=limit, transformer_kw=c.transformer_kw * float(r.choice([1.0, 0.3])), base_kw=float(r.choice([0.0, 400.0])))
