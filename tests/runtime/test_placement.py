"""Every partition has exactly one host, whatever the projects are; a dedicated project never shares."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.core.ports import ProjectInfo
from cloud.runtime.placement import DEDICATED_BASE, partition_for, plan_hosts


def project(number: int, dedicated: bool) -> ProjectInfo:
    return ProjectInfo(number, f"p{number}", "", "", "", 0, 0, "Asia/Shanghai", 1, "", dedicated)


@given(st.sets(st.integers(1, 900), max_size=40), st.sets(st.integers(1, 900), max_size=8), st.integers(1, 32), st.integers(1, 6))
def test_each_project_is_served_by_exactly_one_host(shared: set[int], alone: set[int], partitions: int, hosts: int) -> None:
    projects = [project(n, n in alone) for n in shared | alone]
    plan = plan_hosts(projects, partitions, hosts)
    owned = [p for parts in plan.values() for p in parts]
    assert len(owned) == len(set(owned))
    assert set(range(partitions)) <= set(owned)
    for one in projects:
        mine = [name for name, parts in plan.items() if partition_for(one, partitions) in parts]
        assert len(mine) == 1
        if one.dedicated_host:
            assert partition_for(one, partitions) >= DEDICATED_BASE
            assert sum(partition_for(other, partitions) == partition_for(one, partitions) for other in projects) == 1
