"""The built pages: hashed assets for a year, everything else the one page that routes by itself; gzip made at build time.

Must not know: the API.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

_MISSING = ("The pages are not built, so this portal answers its API only. Run `python hatch_build.py` in a checkout, or install a wheel.\n"
            "页面尚未构建，本门户仅提供接口。请在源码目录运行 `python hatch_build.py`，或安装 wheel 包。\n")
mimetypes.add_type("application/manifest+json", ".webmanifest")


class Pages:
    """Serves the folder of built pages."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._built = 0
        self._files: dict[str, Path] = {}

    def _look(self) -> None:
        """List the files again when the pages were built anew."""
        if self._folder is None:
            return
        try:
            built = (self._folder / "index.html").stat().st_mtime_ns
        except FileNotFoundError:
            built = 0
        if built != self._built:
            self._built = built
            self._files = {f"/{p.relative_to(self._folder).as_posix()}": p for p in self._folder.rglob("*") if p.is_file()} if built else {}

    def serve(self, request: Request) -> Response:
        """A file, or the page."""
        self._look()
        if not self._files:
            return PlainTextResponse(_MISSING, status_code=503)
        path = request.url.path
        found = self._files.get(path) if not path.endswith(".gz") else None
        if found is None:
            if path.startswith("/assets/"):
                return PlainTextResponse("not found\n", status_code=404)
            path, found = "/index.html", self._files["/index.html"]
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        headers = {"Cache-Control": "public, max-age=31536000, immutable" if path.startswith("/assets/") else "no-cache", "Vary": "Accept-Encoding"}
        packed = self._files.get(path + ".gz")
        if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return FileResponse(packed, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
        return FileResponse(found, media_type=kind, headers=headers)
