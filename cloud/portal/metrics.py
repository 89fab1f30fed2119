"""The portal's own counters, in the text format Prometheus reads. Must not know: functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Requests by method, route and status, their durations, and gauges given when asked."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self._count = 0

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. `route` is a template or "other", so that labels stay few."""
        self._requests[method, route, status] += 1
        self._seconds += seconds
        self._count += 1
        for k, bound in enumerate(_BUCKETS):
            if seconds <= bound:
                self._buckets[k] += 1
        self._buckets[-1] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """The exposition."""
        lines = ["# TYPE kang_portal_requests_total counter"]
        lines += [f'kang_portal_requests_total{{method="{m}",route="{r}",status="{s}"}} {n}' for (m, r, s), n in sorted(self._requests.items())]
        lines.append("# TYPE kang_portal_request_seconds histogram")
        lines += [f'kang_portal_request_seconds_bucket{{le="{b:g}"}} {n}' for b, n in zip(_BUCKETS, self._buckets, strict=False)]
        lines += [f'kang_portal_request_seconds_bucket{{le="+Inf"}} {self._buckets[-1]}', f"kang_portal_request_seconds_sum {self._seconds:.6f}",
                  f"kang_portal_request_seconds_count {self._count}"]
        for name, value in gauges.items():
            lines += [f"# TYPE kang_portal_{name} gauge", f"kang_portal_{name} {value:g}"]
        return "\n".join(lines) + "\n"
