"""Which partition a project uses, and which host owns which partitions. Pure.

Must not know: Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloud.core.ports import ProjectInfo
from protos.subjects import partition_of

DEDICATED_BASE = 1024
#: So many partitions of their own there can be.
DEDICATED = 1024


def partition_for(project: ProjectInfo, partitions: int) -> int:
    """A project's partition; a project with a host of its own has a partition of its own above 1,024."""
    return DEDICATED_BASE + project.id % DEDICATED if project.dedicated_host else partition_of(project.id, partitions)


def plan_hosts(projects: Sequence[ProjectInfo], partitions: int, hosts: int) -> dict[str, list[int]]:
    """Host name -> partitions: shared partitions round-robin over `hosts`, one more host per dedicated partition."""
    plan: dict[str, list[int]] = {f"host-{k}": [p for p in range(partitions) if p % hosts == k] for k in range(hosts)}
    for project in projects:
        if project.dedicated_host:
            partition = partition_for(project, partitions)
            plan[f"host-d{partition}"] = [partition]
    return {name: owned for name, owned in plan.items() if owned}
