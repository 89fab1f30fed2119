// Every page's address; pages are loaded when first opened.
import { createRouter, createWebHistory, type RouteLocationNormalized } from 'vue-router'
import { whenSignedOut } from './core/api'
import { forgetDirectory, loadDirectory } from './core/directory'
import { close } from './core/live'
import { load, session } from './core/session'
import { lang, t, type Key } from './core/i18n'
import { watch } from 'vue'

declare module 'vue-router' { interface RouteMeta { title?: Key; open?: boolean; needs?: string } }

export const router = createRouter({
  history: createWebHistory(),
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
  routes: [
    { path: '/', name: 'overview', component: () => import('./functions/monitoring/OverviewPage.vue'), meta: { title: 'nav.overview', needs: 'monitoring.overview.read' } },
    { path: '/projects/:id(\\d+)', name: 'project', component: () => import('./functions/monitoring/ProjectPage.vue'), meta: { title: 'nav.project' } },
    { path: '/alarms', name: 'alarms', component: () => import('./functions/monitoring/AlarmsPage.vue'), meta: { title: 'nav.alarms' } },
    { path: '/devices', name: 'devices', component: () => import('./functions/devices/DevicesPage.vue'), meta: { title: 'nav.devices' } },
    { path: '/devices/:id(\\d+)', name: 'device', component: () => import('./functions/devices/DevicePage.vue'), meta: { title: 'nav.device' } },
    { path: '/agents', name: 'agents', component: () => import('./functions/devices/AgentsPage.vue'), meta: { title: 'nav.agents', needs: 'devices.agent.read' } },
    { path: '/catalogue', name: 'catalogue', component: () => import('./functions/devices/CataloguePage.vue'), meta: { title: 'nav.catalogue' } },
    { path: '/commands', name: 'commands', component: () => import('./functions/remote_control/CommandsPage.vue'), meta: { title: 'nav.commands', needs: 'remote_control.command.read' } },
    { path: '/quarantine', name: 'quarantine', component: () => import('./functions/data_management/QuarantinePage.vue'), meta: { title: 'nav.quarantine', needs: 'monitoring.quarantine.read' } },
    { path: '/log', name: 'log', component: () => import('./functions/system/LogPage.vue'), meta: { title: 'nav.log', needs: 'system.log.read' } },
    { path: '/settings', name: 'settings', component: () => import('./functions/system/SettingsPage.vue'), meta: { title: 'nav.settings' } },
    { path: '/signin', name: 'signin', component: () => import('./functions/system/SignInPage.vue'), meta: { title: 'nav.signin', open: true } },
    { path: '/:rest(.*)*', name: 'nowhere', component: () => import('./functions/system/NowherePage.vue'), meta: { title: 'nav.nowhere' } },
  ],
})

router.beforeEach(async (to: RouteLocationNormalized) => {
  if (to.meta.open) return true
  if (!session.value) {
    try { await load() } catch { return { name: 'signin', query: to.fullPath === '/' ? {} : { next: to.fullPath } } }
  }
  await loadDirectory().catch(() => undefined)
  if (to.meta.needs && !session.value?.operations.includes(to.meta.needs)) return to.name === 'overview' ? { name: 'devices' } : { name: 'nowhere', params: { rest: ['forbidden'] } }
  return true
})
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
