// What a reader prefers; kept in this browser only.
import { reactive, watch } from 'vue'

export interface Settings { language: 'auto' | 'zh' | 'en'; theme: 'auto' | 'light' | 'dark'; energy: 'kWh' | 'GJ' }
const KEY = 'kang.settings'
const defaults: Settings = { language: 'auto', theme: 'auto', energy: 'kWh' }

function stored(): Settings {
  try { return { ...defaults, ...JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Settings> } } catch { return { ...defaults } }
}
export const settings = reactive<Settings>(stored())
watch(settings, () => { try { localStorage.setItem(KEY, JSON.stringify(settings)) } catch { /* a browser without storage keeps the defaults */ } })

const night = window.matchMedia('(prefers-color-scheme: dark)')
export const appearance = reactive({ dark: false })
function dress(): void {
  appearance.dark = settings.theme === 'dark' || (settings.theme === 'auto' && night.matches)
  document.documentElement.dataset.theme = appearance.dark ? 'dark' : 'light'
}
night.addEventListener('change', dress)
watch(() => settings.theme, dress, { immediate: true })
