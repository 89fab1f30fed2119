"""How to reach the historian: one clickhouse-connect client per thread of a small pool, for a given server or our store process.

Must not know: tables.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from cloud.core.admission import HEADER, PRIORITY, BusyError, Gate
from cloud.core.settings import Settings
from protos.errors import KangError

log = logging.getLogger("kang.historian")
T = TypeVar("T")


def _password(settings: Settings) -> str:
    file = settings.credentials / "store.secret"
    return file.read_text().strip() if file.exists() else ""


class HistorianUnavailableError(KangError):
    """The historian does not answer."""

    code = "E-HISTORIAN-DOWN"
    zh = "历史库暂不可用：{problem}。数据已留在队列与边缘缓存，恢复后自动补写。"
    en = "The historian does not answer: {problem}. Data stay queued and spooled, and are written when it is back."


class HistorianQueryError(KangError):
    """The historian refused a statement."""

    code = "E-HISTORIAN-QUERY"
    zh = "历史库拒绝了查询：{problem}。请缩小时间范围或联系管理员。"
    en = "The historian refused the statement: {problem}. Narrow the range or tell the administrator."


class ClickHouse:
    """A pool of threads, each with its own client (a shared client serialises on its lock)."""

    def __init__(self, settings: Settings, *, threads: int = 4, name: str = "kang") -> None:
        self._settings = settings
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="historian")
        self._local: dict[int, Client] = {}
        self.gate = Gate(threads, most=10_000)
        self.cancelled = 0

    def client(self) -> Client:
        """A new client; call from the thread that will use it."""
        url = urlsplit(self._settings.historian_url or f"clickhouse://127.0.0.1:{self._settings.store_port}")
        return clickhouse_connect.get_client(
            host=url.hostname or "127.0.0.1", port=url.port or 8123, secure=url.scheme == "clickhouses", username=url.username or "kang",
            password=_password(self._settings), client_name=self._name, compress=False, autogenerate_session_id=False, send_receive_timeout=120,
            connect_timeout=5, query_retries=1)

    async def run(self, work: Callable[[Client], T]) -> T:
        """Run `work(client)` on a pool thread, the most urgent request first.

        Raises:
            HistorianUnavailableError: no connection.
            HistorianQueryError: the engine refused.
        """
        async with self.gate.slot(PRIORITY.get()):
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, work)

    def _call(self, work: Callable[[Client], T]) -> T:
        ident = threading.get_ident()
        try:
            client = self._local.get(ident)
            if client is None:
                client = self._local[ident] = self.client()
            return work(client)
        except OperationalError as error:
            self._local.pop(ident, None)
            raise HistorianUnavailableError(problem=str(error)[:200]) from error
        except DatabaseError as error:
            if "E-BUSY" in str(error):
                raise BusyError(retry_after_s=2) from error
            raise HistorianQueryError(problem=str(error)[:400]) from error
        except OSError as error:
            self._local.pop(ident, None)
            raise HistorianUnavailableError(problem=str(error)[:200]) from error

    async def query(self, sql: str, parameters: dict[str, Any] | None = None, settings: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query; it is ended at the historian when the caller is cancelled."""
        query_id, headers = uuid.uuid4().hex, {HEADER: str(PRIORITY.get())}
        return await self._ask(query_id, lambda c: list(c.query(
            _tagged(sql, query_id), parameters=parameters, settings=settings, transport_settings=headers).result_rows))

    async def columns(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        """Columns of a query as numpy arrays or lists; ended with the caller."""
        query_id, headers = uuid.uuid4().hex, {HEADER: str(PRIORITY.get())}
        return await self._ask(query_id, lambda c: list(c.query(
            _tagged(sql, query_id), parameters=parameters, column_oriented=True, transport_settings=headers).result_columns))

    async def _ask(self, query_id: str, work: Callable[[Client], T]) -> T:
        started = threading.Event()

        def begin(client: Client) -> T:
            started.set()
            return work(client)

        try:
            return await self.run(begin)
        except asyncio.CancelledError:
            if started.is_set():
                self.cancelled += 1
                threading.Thread(target=self._kill, args=(query_id,), daemon=True).start()
            raise

    def _kill(self, query_id: str) -> None:
        """End a query nobody waits for; best effort. A client of its own: the pool's threads are what it wants to free."""
        try:
            client = self.client()
            client.command(f"KILL QUERY WHERE startsWith(query, '{_tagged('', query_id)}') ASYNC", transport_settings={HEADER: "0"})
            client.close()
        except (OperationalError, DatabaseError, OSError) as error:
            log.info("a query could not be ended: %s", str(error)[:120])

    async def command(self, sql: str) -> None:
        """Run a statement without a result."""
        await self.run(lambda c: c.command(sql))

    async def insert(self, table: str, block: bytes, names: list[str], token: str) -> None:
        """Insert one Native block exactly once for `token`."""
        await self.run(lambda c: c.raw_insert(table, column_names=names, insert_block=block, fmt="Native", settings={"insert_deduplication_token": token} if token else None))

    async def wait(self, seconds: float = 60.0) -> None:
        """Wait until the historian answers.

        Raises:
            HistorianUnavailableError: it did not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                await self.query("SELECT 1")
            except HistorianUnavailableError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    def close(self) -> None:
        """End the pool."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _tagged(sql: str, query_id: str) -> str:
    """A statement that can be found again among the running ones, on a server and in chDB alike."""
    return f"/* kang:{query_id} */ {sql}"
