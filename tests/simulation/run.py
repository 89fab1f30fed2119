"""Many lives, or one to look at: `python -m tests.simulation.run --seeds 1000`, `--seed 17 --trace`.

Must not know: pytest.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.life import Found, live


def replay(seed: int) -> str:
    """The command that shows a life again."""
    return f"python -m tests.simulation.run --seed {seed} --trace"


def report(found: Found) -> str:
    """One line per failing life, what it broke below."""
    return "\n".join([f"seed {found.seed} failed; replay: {replay(found.seed)}", *(f"    {v}" for v in found.violations[:5])])


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 when every life passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run")
    parser.add_argument("--seeds", type=int, default=200, help="how many lives")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one life only")
    parser.add_argument("--trace", action="store_true", help="print every event")
    args = parser.parse_args(argv)
    seeds = [args.seed] if args.seed is not None else range(args.start, args.start + args.seeds)
    failed, begun, counts = 0, time.perf_counter(), dict[str, int]()
    for seed in seeds:
        found = live(seed, trace=args.trace)
        for what, n in found.counts.items():
            counts[what] = counts.get(what, 0) + n
        if found.violations:
            failed += 1
            print(report(found), flush=True)
    print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    print(f"{len(seeds) - failed} passed, {failed} failed in {time.perf_counter() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
