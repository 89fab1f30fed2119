"""A portfolio's projects on Ray: one actor a worker, each with its share of the projects, their programs and their solvers' bases kept warm.

A price is asked of all workers at once, one call a worker and round (hundreds of projects, so a call's cost is nothing beside them); what comes back are
costs and K numbers a project. Pricing has no effect outside, so a lost worker is started again and asked again. Must not know: targets, how plans are mixed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import ray
from ray.exceptions import GetTimeoutError, RayError

from optimizers.methods.pools import Column, LocalPool, Steps, shares_of, together
from optimizers.specification import Array, Community
from protos.errors import KangError

#: Seconds for one round of all projects, start included: past it the portfolio is given up rather than a caller held for ever.
ROUND_S = 300.0
RESTARTS = 3


class PortfolioPoolError(KangError):
    """The workers of a portfolio are gone or too few; nothing was split."""

    code = "E-PORTFOLIO-POOL"
    zh = "组合优化的计算节点不可用（{problem}）。请检查 Ray 节点后重试，或减少工作进程数。"
    en = "The workers of the portfolio do not answer ({problem}). Check the Ray nodes and try again, or ask for fewer workers."


class _Worker:
    """The actor: a `LocalPool` of its share."""

    def __init__(self, communities: list[Community], steps: Steps, first: int, stride: int) -> None:
        self._made = LocalPool(communities, steps, first=first, stride=stride)

    def price(self, price: Array, whole: bool) -> list[Column]:
        """See `Pool.price`."""
        return self._made.price(price, whole=whole)

    def process(self) -> int:
        """Number of its process, for tests and figures."""
        return os.getpid()


class RayPool:
    """An executor for `optimizers.methods.portfolio`, on the Ray cluster this process is connected to. A context manager: its workers end with it.

    Args:
        communities: the projects.
        steps: indices of the event's steps.
        workers: actors; None = the processors that are free now.
        cpus: processors an actor takes.
        seconds: the longest a round may take.

    Raises:
        PortfolioPoolError: Ray is not connected here.
    """

    def __init__(self, communities: Sequence[Community], steps: Steps, *, workers: int | None = None, cpus: float = 1.0, seconds: float = ROUND_S) -> None:
        if not ray.is_initialized():
            raise PortfolioPoolError(problem="not connected to a cluster")
        free = int(ray.available_resources().get("CPU", 0.0) / cpus) if cpus else 1
        count = min(len(communities), workers or max(1, free))
        self._seconds = seconds
        # Ray gives an actor as many threads of BLAS as it has processors: one, so that workers do not fight over them.
        options: dict[str, Any] = {"num_cpus": cpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
        # Kept here: a worker that is started again reads its share anew.
        self._shares = [ray.put(share) for share in shares_of(communities, count)]
        self._workers = [ray.remote(_Worker).options(**options).remote(share, steps, first, count) for first, share in enumerate(self._shares)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            ray.kill(worker)

    def price(self, price: Array, *, whole: bool = False) -> list[Column]:
        """See `Pool.price`.

        Raises:
            PortfolioPoolError: a worker was lost more often than it is started again, or a round took too long.
        """
        return together(self._answers([worker.price.remote(price, whole) for worker in self._workers]))

    def processes(self) -> list[int]:
        """Numbers of the workers' processes."""
        found: list[int] = self._answers([worker.process.remote() for worker in self._workers])
        return found

    def _answers(self, references: list[Any]) -> list[Any]:
        try:
            found: list[Any] = ray.get(references, timeout=self._seconds)
        except GetTimeoutError as error:
            raise PortfolioPoolError(problem=f"no answer within {self._seconds:g} s") from error
        except RayError as error:
            raise PortfolioPoolError(problem=type(error).__name__) from error
        return found
