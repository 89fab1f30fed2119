"""The store process: one process owns chDB (ClickHouse's engine) and speaks ClickHouse's HTTP protocol on loopback.

chDB lets a single process open a path, so every other process of an embedded installation reaches it here with the same
client class a real server gets. Must not know: our tables, batches, who asks (one shared secret, loopback only).

The scarce slots are owned here: the most urgent class goes first, and a query whose caller has gone is not begun.

Supported of the protocol: query text in `query` or body, FORMAT clause or `default_format`, `param_*`, per-query settings, Basic or X-ClickHouse
credentials, zstd/gzip request bodies, error codes. Not: sessions, roles, streaming of results larger than memory, external tables.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hmac
import json
import logging
import queue
import re
import select
import signal
import socket
import socketserver
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from backports import zstd

from cloud.core.admission import CONTROL, HEADER, BusyError, ThreadGate

log = logging.getLogger("kang.store")

MAX_BODY = 512 << 20
_INSERT = re.compile(rb"^\s*INSERT\s+INTO\s.*?\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE | re.DOTALL)
_INSERT_HEAD = re.compile(rb"^\s*INSERT\s+INTO\s[^\0]{1,65536}?\bFORMAT\s+\w+[ \t]*\n", re.IGNORECASE)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_CODE = re.compile(r"Code:\s*(\d+)")
_NAME = re.compile(r"^[A-Za-z_]\w*$")
_TRANSPORT = frozenset({
    "database", "query", "default_format", "buffer_size", "session_id", "session_timeout", "session_check", "query_id", "quota_key", "compress", "decompress",
    "wait_end_of_query", "client_protocol_version", "role", "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression",
    "user", "password",
})
CONFIG = """<clickhouse>
  <mark_cache_size>67108864</mark_cache_size><uncompressed_cache_size>0</uncompressed_cache_size><index_mark_cache_size>16777216</index_mark_cache_size>
  <mmap_cache_size>64</mmap_cache_size><compiled_expression_cache_size>16777216</compiled_expression_cache_size>
  <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
  <background_pool_size>2</background_pool_size><background_schedule_pool_size>4</background_schedule_pool_size>
  <backups><allowed_path>{backups}</allowed_path></backups>
</clickhouse>
"""


class Engine:
    """A pool of handles on one chDB path."""

    def __init__(self, path: Path, *, handles: int = 4) -> None:
        from chdb.state.sqlitelike import connect

        path.mkdir(parents=True, exist_ok=True)
        backups = path.parent / "backups"
        backups.mkdir(parents=True, exist_ok=True)
        config = path.parent / "chdb.xml"
        config.write_text(CONFIG.format(backups=backups))
        self._pool: queue.LifoQueue[Any] = queue.LifoQueue()
        self.door = ThreadGate(handles, reserved=1 if handles > 1 else 0)
        self._handles = [connect(f"{path}?config-file={config}&max_threads=2") for _ in range(handles)]
        for handle in self._handles:
            self._pool.put(handle)

    @contextmanager
    def handle(self) -> Iterator[Any]:
        """Borrow a handle; one caller at a time."""
        handle = self._pool.get()
        try:
            yield handle
        finally:
            self._pool.put(handle)

    def close(self) -> None:
        """Close every handle; waits for running queries."""
        for _ in self._handles:
            self._pool.get().close()

    def insert(self, sql: bytes, fmt: str, data: bytes, settings: dict[str, str]) -> int:
        """Run an INSERT whose rows are `data`; returns rows written."""
        text = _FORMAT.sub("", sql.decode())
        if settings:
            clause = ", ".join(f"{k} = {_quote(v)}" for k, v in settings.items())
            text = f"{text} SETTINGS {clause}"
        with self.handle() as handle:
            stream = handle.send_insert(text, fmt)
            try:
                stream.append(data)
                return int(stream.finish().rows_written)
            finally:
                stream.cancel()

    def query(self, sql: str, fmt: str, params: dict[str, str], settings: dict[str, str]) -> bytes:
        """Run any other statement; returns the bytes of its result."""
        with self.handle() as handle:
            applied: list[str] = []
            try:
                for name, value in settings.items():
                    handle.query(f"SET {name} = {_quote(value)}")
                    applied.append(name)
                return bytes(handle.query(sql, fmt, params=params).bytes())
            finally:
                for name in applied:
                    handle.query(f"SET {name} = DEFAULT")


def _quote(value: str) -> str:
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Handler(BaseHTTPRequestHandler):
    """One HTTP exchange; keep-alive, one thread per connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    wbufsize = 1 << 16  # one write per answer, else Nagle and delayed ACK cost 40 ms
    timeout = 600

    def setup(self) -> None:
        """Switch Nagle off."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        """/ping and read queries."""
        if self.path.startswith("/ping"):
            self._answer(200, b"Ok.\n")
        else:
            self._run(b"")

    def do_POST(self) -> None:
        """Queries and inserts."""
        length = int(self.headers.get("Content-Length") or -1)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self._chunked()
        elif length < 0 or length > MAX_BODY:
            self._answer(413 if length > 0 else 411, b"Content-Length is missing or over the limit\n")
            self.close_connection = True
            return
        else:
            body = self.rfile.read(length)
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "zstd":
            body = zstd.decompress(body)
        elif encoding == "gzip":
            body = gzip.decompress(body)
        self._run(body)

    def _chunked(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                self.rfile.readline()
                return b"".join(parts)
            total += size
            if total > MAX_BODY:
                raise ConnectionAbortedError("request body over the limit")
            parts.append(self.rfile.read(size))
            self.rfile.readline()

    def _authorised(self, params: dict[str, str]) -> bool:
        given = self.headers.get("X-ClickHouse-Key") or params.get("password") or ""
        basic = self.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            given = base64.b64decode(basic[6:]).decode(errors="replace").partition(":")[2]
        return hmac.compare_digest(given.encode(), self.server.secret.encode())

    def _run(self, body: bytes) -> None:
        params = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if not self._authorised(params):
            self._answer(403, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)\n", code="516")
            return
        settings = {k: v for k, v in params.items() if k not in _TRANSPORT and not k.startswith("param_") and _NAME.match(k)}
        bound = {k[6:]: v for k, v in params.items() if k.startswith("param_")}
        head = params.get("query", "").encode()
        if not head and (match := _INSERT_HEAD.match(body)):
            head, body = match[0], body[match.end():]
        started = time.perf_counter()
        given = self.headers.get(HEADER, "")
        priority = int(given) if given.isdigit() else CONTROL
        try:
            with self.server.engine.door.slot(priority, self._gone):
                self._execute(head, body, params, bound, settings, started)
        except BusyError as error:
            self._answer(503, f"Code: 202. DB::Exception: E-BUSY {error.message('en')} (TOO_MANY_SIMULTANEOUS_QUERIES)\n".encode(), code="202")

    def _gone(self) -> bool:
        """True when the caller has closed the connection: nobody waits for the answer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return False
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK) == b"")
        except OSError:
            return True

    def _execute(self, head: bytes, body: bytes, params: dict[str, str], bound: dict[str, str], settings: dict[str, str], started: float) -> None:
        try:
            match = _INSERT.match(head)
            if match and body:
                rows = self.server.engine.insert(head, match[1].decode(), body, settings)
                summary = {"written_rows": str(rows), "elapsed_ns": str(int((time.perf_counter() - started) * 1e9))}
                self._answer(200, b"", summary=summary)
                return
            sql = (head + b"\n" + body if head else body).decode().strip().rstrip(";")
            found = _FORMAT.search(sql)
            fmt = found[1] if found else params.get("default_format", "TabSeparated")
            # chDB takes the format beside the statement; a FORMAT clause in it would win and be the same.
            result = self.server.engine.query(_FORMAT.sub("", sql) if found else sql, fmt, bound, settings)
            self._answer(200, result, fmt=fmt)
        except Exception as error:  # noqa: BLE001  every engine error becomes a protocol answer
            text = str(error)
            at = text.find("Code: ")
            text = text[at:] if at >= 0 else f"Code: 1002. DB::Exception: {text}"
            found_code = _CODE.search(text)
            self._answer(500, text.encode() + b"\n", code=found_code[1] if found_code else "1002")

    def _answer(self, status: int, body: bytes, *, code: str = "", fmt: str = "", summary: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("X-ClickHouse-Query-Id", uuid.uuid4().hex)
        self.send_header("X-ClickHouse-Summary", json.dumps(summary or {}))
        if fmt:
            self.send_header("X-ClickHouse-Format", fmt)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silence: a line per query would outweigh the queries."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Threaded HTTP server on loopback."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, engine: Engine, secret: str) -> None:
        self.engine = engine
        self.secret = secret
        super().__init__((host, port), Handler)


def main(argv: list[str] | None = None) -> None:
    """`python -m cloud.historian.store --path DIR --port N --secret-file FILE`."""
    parser = argparse.ArgumentParser(prog="kang-store", description="Own a chDB path and serve it over ClickHouse's HTTP protocol on loopback.")
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='{"at":"%(asctime)s","level":"%(levelname)s","name":"%(name)s","message":"%(message)s"}')
    engine = Engine(args.path)
    server = Server("127.0.0.1", args.port, engine, args.secret_file.read_text().strip())
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log.info("store serves %s on 127.0.0.1:%d", args.path, args.port)
    server.serve_forever()
    engine.close()


if __name__ == "__main__":
    main()
