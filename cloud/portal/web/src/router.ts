// Every page's address; pages are loaded when first opened.
import { createRouter, createWebHistory, type RouteLocationNormalized } from 'vue-router'
import { whenSignedOut } from './core/api'
import { forgetDirectory, loadDirectory } from './core/directory'
import { close } from './core/live'
import { load, session } from './core/session'
import { lang, t, type Key } from './core/i18n'
import { watch } from 'vue'
import './core/stepup'
import { menu } from './shell/menu'

declare module 'vue-router' { interface RouteMeta { title?: Key; open?: boolean; needs?: string } }

export const router = createRouter({
  history: createWebHistory(),
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
  routes: [
    { path: '/', name: 'overview', component: () => import('./functions/monitoring/OverviewPage.vue'), meta: { title: 'nav.overview', needs: 'monitoring.overview.read' } },
    { path: '/projects/:id(\\d+)', name: 'project', component: () => import('./functions/monitoring/ProjectPage.vue'), meta: { title: 'nav.project' } },
    { path: '/projects/:id(\\d+)/plan', name: 'plan', component: () => import('./functions/economic_operation/PlanPage.vue'), meta: { title: 'plan.title', needs: 'economic_operation.plan.read' } },
    { path: '/projects/:id(\\d+)/response', name: 'response-strategy', component: () => import('./functions/demand_response/StrategyPage.vue'), meta: { title: 'dr.strategy', needs: 'demand_response.strategy.read' } },
    { path: '/demand-response', name: 'response', component: () => import('./functions/demand_response/ResponsePage.vue'), meta: { title: 'nav.response', needs: 'demand_response.event.read' } },
    { path: '/demand-response/events/:id(\\d+)', name: 'response-event', component: () => import('./functions/demand_response/EventPage.vue'), meta: { title: 'dr.event', needs: 'demand_response.event.read' } },
    { path: '/demand-response/statements', name: 'response-statements', component: () => import('./functions/demand_response/StatementsPage.vue'), meta: { title: 'dr.statements', needs: 'demand_response.statement.read' } },
    { path: '/alarms', name: 'alarms', component: () => import('./functions/monitoring/AlarmsPage.vue'), meta: { title: 'nav.alarms', needs: 'monitoring.alarms.read' } },
    { path: '/devices', name: 'devices', component: () => import('./functions/devices/DevicesPage.vue'), meta: { title: 'nav.devices', needs: 'devices.device.read' } },
    { path: '/devices/:id(\\d+)', name: 'device', component: () => import('./functions/devices/DevicePage.vue'), meta: { title: 'nav.device' } },
    { path: '/agents', name: 'agents', component: () => import('./functions/devices/AgentsPage.vue'), meta: { title: 'nav.agents', needs: 'devices.agent.read' } },
    { path: '/catalogue', name: 'catalogue', component: () => import('./functions/devices/CataloguePage.vue'), meta: { title: 'nav.catalogue', needs: 'devices.catalogue.read' } },
    { path: '/commands', name: 'commands', component: () => import('./functions/remote_control/CommandsPage.vue'), meta: { title: 'nav.commands', needs: 'remote_control.command.read' } },
    { path: '/parameters', name: 'parameters', component: () => import('./functions/remote_control/ParametersPage.vue'), meta: { title: 'nav.parameters', needs: 'remote_control.parameter.read' } },
    { path: '/batches', name: 'batches', component: () => import('./functions/remote_control/BatchesPage.vue'), meta: { title: 'nav.batches', needs: 'remote_control.batch.read' } },
    { path: '/batches/new', name: 'batch-new', component: () => import('./functions/remote_control/BatchNewPage.vue'), meta: { title: 'batch.new', needs: 'remote_control.batch.submit' } },
    { path: '/batches/:id([a-z0-9-]{8,32})', name: 'batch', component: () => import('./functions/remote_control/BatchPage.vue'), meta: { title: 'nav.batches', needs: 'remote_control.batch.read' } },
    { path: '/quarantine', name: 'quarantine', component: () => import('./functions/data_management/QuarantinePage.vue'), meta: { title: 'nav.quarantine', needs: 'monitoring.quarantine.read' } },
    { path: '/dialogue', name: 'dialogue', component: () => import('./functions/system/DialoguePage.vue'), meta: { title: 'nav.dialogue', needs: 'system.dialogue.list' } },
    { path: '/log', name: 'log', component: () => import('./functions/system/LogPage.vue'), meta: { title: 'nav.log', needs: 'system.log.read' } },
    { path: '/audit', name: 'audit', component: () => import('./functions/system/AuditPage.vue'), meta: { title: 'nav.audit', needs: 'system.audit.read' } },
    { path: '/network', name: 'network', component: () => import('./functions/system/NetworkPage.vue'), meta: { title: 'nav.network', needs: 'system.network.read' } },
    { path: '/interfaces', name: 'interfaces', component: () => import('./functions/interfaces/ClientsPage.vue'), meta: { title: 'nav.interfaces', needs: 'interfaces.client.read' } },
    { path: '/settings', name: 'settings', component: () => import('./functions/system/SettingsPage.vue'), meta: { title: 'nav.settings' } },
    { path: '/people', name: 'people', component: () => import('./functions/system/PeoplePage.vue'), meta: { title: 'nav.people', needs: 'system.person.read' } },
    { path: '/people/:id(\\d+)', name: 'person', component: () => import('./functions/system/PersonPage.vue'), meta: { title: 'nav.people', needs: 'system.person.read' } },
    { path: '/organisations', name: 'organisations', component: () => import('./functions/system/OrganisationsPage.vue'), meta: { title: 'nav.organisations', needs: 'system.organisation.read' } },
    { path: '/sessions', name: 'sessions', component: () => import('./functions/system/SessionsPage.vue'), meta: { title: 'nav.sessions', needs: 'system.session.list' } },
    { path: '/approvals', name: 'approvals', component: () => import('./functions/system/ApprovalsPage.vue'), meta: { title: 'nav.approvals', needs: 'system.approval.read' } },
    { path: '/operations', name: 'operations', component: () => import('./functions/system/OperationsPage.vue'), meta: { title: 'nav.operations', needs: 'system.operation.read' } },
    { path: '/security', name: 'security', component: () => import('./functions/system/SecurityPage.vue'), meta: { title: 'nav.security', needs: 'system.me.read' } },
    { path: '/signin', name: 'signin', component: () => import('./functions/system/SignInPage.vue'), meta: { title: 'nav.signin', open: true } },
    { path: '/:rest(.*)*', name: 'nowhere', component: () => import('./functions/system/NowherePage.vue'), meta: { title: 'nav.nowhere' } },
  ],
})

router.beforeEach(async (to: RouteLocationNormalized) => {
  if (to.meta.open) return true
  if (!session.value) {
    try { await load() } catch { return { name: 'signin', query: to.fullPath === '/' ? {} : { next: to.fullPath } } }
  }
  if (session.value?.restricted && to.name !== 'security') return { name: 'security' }
  if (session.value?.operations.includes('devices.project.read')) await loadDirectory().catch(() => undefined)
  if (to.meta.needs && !session.value?.operations.includes(to.meta.needs)) return to.name === 'overview' ? home() : { name: 'nowhere', params: { rest: ['forbidden'] } }
  return true
})
/** Where somebody without the overview begins: the first page of their menu. */
function home(): string { return session.value?.operations.includes('devices.device.read') ? '/devices' : menu()[0]?.items[0]?.to ?? '/settings' }
function title(to: RouteLocationNormalized): void { document.title = `${to.meta.title ? t(to.meta.title) : ''} · Kang 炕` }
router.afterEach(title)
watch(lang, () => title(router.currentRoute.value))
whenSignedOut(() => {
  if (!session.value) return
  session.value = null
  forgetDirectory()
  close()
  void router.push({ name: 'signin', query: { next: router.currentRoute.value.fullPath, ended: '1' } })
})
