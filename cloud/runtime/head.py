"""Starts a Ray head through Ray's own command line, without the Ray Client server: nobody may attach code to this cluster from outside.

`ray start` has no switch for it, but skips it where its optional parts are missing; that is what it is told here. Must not know: hosts.
"""

from __future__ import annotations

import sys

from cloud.runtime.loopback import stay_here


def main() -> None:
    """`python -m cloud.runtime.head start --head ...`."""
    from ray.scripts import scripts

    stay_here()
    scripts.get_ray_client_dependency_error = lambda: ImportError("the Ray Client server is not wanted here")
    sys.exit(scripts.main())


if __name__ == "__main__":
    main()
