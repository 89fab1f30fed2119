"""Names on the wire: NATS subjects, streams and identities, so that both sides spell them once.

Must not know: what travels on them.
"""

from __future__ import annotations


def partition_of(project_id: int, partitions: int) -> int:
    """The partition of a project; stable for the life of an installation (the count is recorded at first start)."""
    return project_id % partitions


def telemetry_stream(partition: int) -> str:
    """JetStream stream of a partition."""
    return f"TEL_{partition:03d}"


def telemetry(partition: int, project_id: int, agent_id: str) -> str:
    """Subject a sealed batch is published on."""
    return f"tel.{partition:03d}.{project_id}.{agent_id}"


RESULT_STREAM = "CTL"


def result(project_id: int, agent_id: str) -> str:
    """Subject a sealed command result is published on (JetStream)."""
    return f"ctl.{project_id}.{agent_id}"


def down(project_id: int, agent_id: str, what: str) -> str:
    """To an agent: `what` in ack, command, lease, welcome. Served by the gateway for gRPC agents, by the agent on NATS."""
    return f"down.{project_id}.{agent_id}.{what}"


def up(project_id: int, agent_id: str, what: str) -> str:
    """From an agent on core NATS: `what` in heartbeat, live."""
    return f"up.{project_id}.{agent_id}.{what}"


def agent_identity(project_id: int, agent_id: str) -> str:
    """Identity string of an agent, as in its certificate's URI SAN and in envelopes."""
    return f"kang://project/{project_id}/agent/{agent_id}"


PLATFORM_IDENTITY = "kang://platform/telemetry"
RELEASE_IDENTITY = "kang://platform/release"
COMMAND_IDENTITY = "kang://platform/command"
