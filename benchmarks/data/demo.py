"""`kang demo` on ports of its own, so that a demo somebody is looking at stays undisturbed. `python -m benchmarks.data.demo PORT_BASE HOME [arguments]`."""

from __future__ import annotations

import signal
import sys

from benchmarks.plants import demo
from cloud import cli


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell is born deaf to it
    demo.PORT_BASE = int(sys.argv[1])  # type: ignore[misc]
    cli.main(["--home", sys.argv[2], "demo", *sys.argv[3:]])


if __name__ == "__main__":
    main()
