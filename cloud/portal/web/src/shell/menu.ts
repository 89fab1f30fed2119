// Navigation by the functions of the standard (7.2, 7.3); what is not built yet is not in the menu.
import { may } from '@/core/session'
import type { Key } from '@/core/i18n'

export interface Item { to: string; icon: string; label: Key; needs: string }
export const MENU: { label: Key; items: Item[] }[] = [
  { label: 'function.monitoring', items: [
    { to: '/', icon: 'overview', label: 'nav.overview', needs: 'monitoring.overview.read' },
    { to: '/alarms', icon: 'alarm', label: 'nav.alarms', needs: 'monitoring.alarms.read' }] },
  { label: 'function.devices', items: [
    { to: '/devices', icon: 'devices', label: 'nav.devices', needs: 'devices.device.read' },
    { to: '/agents', icon: 'agents', label: 'nav.agents', needs: 'devices.agent.read' },
    { to: '/dialogue', icon: 'dialogue', label: 'nav.dialogue', needs: 'system.dialogue.list' },
    { to: '/catalogue', icon: 'catalogue', label: 'nav.catalogue', needs: 'devices.catalogue.read' }] },
  { label: 'function.remote_control', items: [{ to: '/commands', icon: 'commands', label: 'nav.commands', needs: 'remote_control.command.read' }, { to: '/batches', icon: 'columns', label: 'nav.batches', needs: 'remote_control.batch.read' }, { to: '/parameters', icon: 'settings', label: 'nav.parameters', needs: 'remote_control.parameter.read' }] },
  { label: 'function.demand_response', items: [{ to: '/demand-response', icon: 'bolt', label: 'nav.response', needs: 'demand_response.event.read' }, { to: '/demand-response/statements', icon: 'catalogue', label: 'nav.drStatements', needs: 'demand_response.statement.read' }] },
  { label: 'function.data_management', items: [{ to: '/quarantine', icon: 'quarantine', label: 'nav.quarantine', needs: 'monitoring.quarantine.read' }] },
  { label: 'function.interfaces', items: [{ to: '/interfaces', icon: 'globe', label: 'nav.interfaces', needs: 'interfaces.client.read' }] },
  { label: 'function.people', items: [
    { to: '/people', icon: 'people', label: 'nav.people', needs: 'system.person.read' },
    { to: '/organisations', icon: 'organisation', label: 'nav.organisations', needs: 'system.organisation.read' },
    { to: '/sessions', icon: 'agents', label: 'nav.sessions', needs: 'system.session.list' }] },
  { label: 'function.system', items: [
    { to: '/approvals', icon: 'approval', label: 'nav.approvals', needs: 'system.approval.read' },
    { to: '/log', icon: 'log', label: 'nav.log', needs: 'system.log.read' },
    { to: '/audit', icon: 'log', label: 'nav.audit', needs: 'system.audit.read' },
    { to: '/network', icon: 'agents', label: 'nav.network', needs: 'system.network.read' },
    { to: '/operations', icon: 'catalogue', label: 'nav.operations', needs: 'system.operation.read' },
    { to: '/security', icon: 'lock', label: 'nav.security', needs: 'system.me.read' },
    { to: '/settings', icon: 'settings', label: 'nav.settings', needs: 'system.session.read' }] },
]
export const menu = (): typeof MENU => MENU.map((g) => ({ ...g, items: g.items.filter((i) => may(i.needs)) })).filter((g) => g.items.length > 0)
