"""The heartbeat: what the agent says of itself and of its devices every few seconds.

Must not know: transports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent import host
from edge_agent.clock import Now
from edge_agent.commands.desk import Image
from edge_agent.uplink.link import VERSION
from protos.arbitration import Authority
from protos.kang.v1 import telemetry_pb2 as pb

if TYPE_CHECKING:
    from edge_agent.agent import Agent, Unit


def heartbeat(agent: Agent, now: Now, challenge: bytes, cpu_share: float) -> pb.Heartbeat:
    """The state of an agent."""
    spool, site = agent.spool, agent.site
    return pb.Heartbeat(
        project_id=site.project_id, agent_id=site.agent_id, epoch=spool.epoch, boot_id=agent.boot_id, challenge=challenge, wall_ms=now.wall_ms, monotonic_ms=now.mono_ms,
        clock_trusted=now.trusted, spool_batches=spool.batches, spool_readings=spool.readings, oldest_ms=spool.oldest_ms(), last_sequence=spool.last_sequence, version=VERSION,
        cpu_share=cpu_share, rss_bytes=host.rss_bytes(), devices=[_device(agent, unit, now) for unit in agent.units.values()], clock_source=agent.clock.source,
        readings_total=agent.counts["readings"], audit_contradictions=agent.link.witness.contradictions if agent.link.witness else 0,
        audit_forged=agent.link.witness.forged if agent.link.witness else 0,
        plan_version=agent.desk.plan.version if agent.desk.plan else 0, plan_digest=agent.desk.plan.digest if agent.desk.plan else b"", plan_refused=agent.desk.plan_refused)


def _device(agent: Agent, unit: Unit, now: Now) -> pb.DeviceState:
    device = unit.site.device
    image = agent.images.get(device.id, Image())
    tag = agent.journal.lockout(device.id)
    code = "" if unit.online else unit.driver.counters.error
    if device.id in agent.actuation.suppressed_frost:
        code = "frost_suppressed"  # a stop stands above frost protection: people must know
    state = pb.DeviceState(device_id=device.id, online=unit.online, last_ok_ms=unit.last_ok_ms, error_code=code, local_manual=agent.desk.is_local(image),
                           locked_out=tag is not None, lockout_holder=tag.holder if tag else "", lockout_reason=tag.reason if tag else "", lockout_ms=tag.since_ms if tag else 0)
    standing = agent.desk.standing(device, image, now.wall_ms) if device.writable else {}
    for spec in device.writable:
        if standing.get(spec.key):
            decision = agent.desk.preview(device, spec, None, now.wall_ms, image)
            by = decision.chosen_by or decision.limited_by
            if decision.limited_by is not None and by is not None and by.authority >= Authority.EDGE_ALGORITHM:
                by = decision.limited_by  # whoever limits what a rule of the box would do decides
            if by is not None and decision.value is not None:
                state.holders.add(point_id=spec.point.id, authority=int(by.authority), value=decision.value, until_ms=by.expires_ms, holder=by.holder, reason=by.reason,
                                  command_id=by.command_id)
    return state
