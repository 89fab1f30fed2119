"""Keeps a Ray of our own on this machine: Ray replaces 127.0.0.1 by an address others can reach, and then listens on every interface.

Asked for by the environment that `installation.ray_environment` makes, so that head, drivers and tests agree. Must not know: hosts, settings.
"""

from __future__ import annotations

import os
from typing import Final

#: Set where head and drivers belong to an installation's own Ray.
VARIABLE: Final = "KANG_RAY_LOOPBACK"
HERE: Final = "127.0.0.1"


def stay_here() -> None:
    """Call before `ray start` and `ray.init`: the node's address is loopback, so GCS, raylet and workers listen there alone. Without the variable nothing changes."""
    if os.environ.get(VARIABLE) != "1":
        return
    from ray._private import services

    services.resolve_ip_for_localhost = lambda host: host
    services.get_node_ip_address = lambda address=None: HERE  # noqa: ARG005  Ray's own signature
