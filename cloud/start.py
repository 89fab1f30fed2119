"""Entry of the command `kang` where only some extras are installed: `kang bench` needs no platform, everything else says which extra is missing.

On the standard library alone. Must not know: how anything works; `cloud.cli` has the commands.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence

#: Our own packages: one of these missing is a fault of the installation, not a missing extra.
_OURS = ("cloud", "optimizers", "protos", "edge_agent", "benchmarks")


def say(zh: str, en: str) -> None:
    """One line to the person at the terminal, on the side where errors go."""
    language = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    sys.stderr.write((zh if language.startswith("zh") else en) + "\n")


def bench_arguments(call: argparse.ArgumentParser) -> None:
    """What `kang bench` understands."""
    call.add_argument("--rows", default="", help="only these, e.g. B1,B2 (default: all)")
    call.add_argument("--quick", action="store_true", help="a smaller run of the same shape")
    call.set_defaults(run=bench)


def bench(args: argparse.Namespace) -> int:
    """Run the optimizers' benchmarks against named peers; results are written to build/results below the current directory."""
    if importlib.util.find_spec("benchmarks") is None or importlib.util.find_spec("benchmarks.optimizers") is None:
        say("未安装基准测试", "The benchmarks are not installed here")
        return 1
    missing = [name for name in ("numpy", "scipy", "pulp", "highspy") if importlib.util.find_spec(name) is None]
    if missing:
        say(f"缺少 {'、'.join(missing)}。请安装：pip install 'kang[optimizers]'", f"{', '.join(missing)} not installed. Way out: pip install 'kang[optimizers]'")
        return 1
    # A process of its own: the threads of BLAS are held back before numpy is first imported.
    command = [sys.executable, "-m", "benchmarks.optimizers", *(["--rows", args.rows] if args.rows else [])]
    return subprocess.run(command, check=False, env={**os.environ, **({"QUICK": "1"} if args.quick else {})}).returncode


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `kang`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["bench"]:
        parser = argparse.ArgumentParser(prog="kang bench", description="benchmark the optimizers against named peers (needs only kang[optimizers])")
        bench_arguments(parser)
        sys.exit(bench(parser.parse_args(words[1:])))
    try:
        from cloud.cli import main as platform
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        say(f"缺少 {error.name}：此命令需要平台。请安装：pip install 'kang[cloud]'；仅装 kang[optimizers] 时可用：kang bench",
            f"{error.name} is not installed: this command needs the platform. Way out: pip install 'kang[cloud]'. With kang[optimizers] alone there is: kang bench")
        sys.exit(1)
    platform(words)


if __name__ == "__main__":
    main()
