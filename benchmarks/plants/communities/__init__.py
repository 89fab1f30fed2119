"""The four communities by name. Must not know: sockets, registers."""

from __future__ import annotations

from benchmarks.plants.communities.boiler_storage import BoilerStorage
from benchmarks.plants.communities.decentralised import Decentralised
from benchmarks.plants.communities.heat_pump import HeatPumpCommunity
from benchmarks.plants.communities.metered_district import MeteredDistrict
from benchmarks.plants.community import Community
from benchmarks.plants.device import PlantError

COMMUNITIES: dict[str, type[Community]] = {c.key: c for c in (BoilerStorage, HeatPumpCommunity, MeteredDistrict, Decentralised)}


def build(key: str, seed: int = 1) -> Community:
    """A community by name.

    Raises:
        PlantError: unknown name.
    """
    if key not in COMMUNITIES:
        raise PlantError(reason=f"no community {key!r}; known: {', '.join(COMMUNITIES)}")
    return COMMUNITIES[key](seed)
