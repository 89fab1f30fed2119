// One slow clock for every age on the page.
import { ref } from 'vue'
import { link, now } from './api'

export const tick = ref(now())
setInterval(() => { tick.value = now() }, 1000)

/** True when a value no longer keeps its promise. Without a link nobody knows whether a silent point is merely unchanged, so 12 s is all it gets. */
export function isStale(at: number | null | undefined, promiseS: number | null | undefined, quality: number | null | undefined): boolean {
  if (!at || quality === 2 || quality === 3) return true
  return tick.value - at > (link.lost ? 12 : Math.max(30, 2 * (promiseS ?? 300))) * 1000
}
