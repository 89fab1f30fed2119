// Loading with honest states: first time, again in the background, failed; an answer that came too late is thrown away.
import { onScopeDispose, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue'
import { ApiError, link } from './api'
import type { Problem } from './types'

export interface Loaded<T> { data: ShallowRef<T | null>; problem: Ref<Problem | null>; busy: Ref<boolean>; reload: () => Promise<void> }

export function useLoad<T>(question: (signal: AbortSignal) => Promise<T>, options: { every?: number; on?: () => unknown } = {}): Loaded<T> {
  const data = shallowRef<T | null>(null) as ShallowRef<T | null>
  const problem = ref<Problem | null>(null)
  const busy = ref(false)
  let flight: AbortController | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let over = false

  async function reload(): Promise<void> {
    flight?.abort()
    clearTimeout(timer)
    const mine = new AbortController()
    flight = mine
    busy.value = true
    try {
      const found = await question(mine.signal)
      if (flight === mine) { data.value = found; problem.value = null }
    } catch (error) {
      if (flight === mine && !(error instanceof DOMException)) problem.value = error instanceof ApiError ? error.problem : { code: 'E-PAGE', zh: '页面出错，请刷新。', en: 'The page failed; reload it.', status: 0, request_id: '' }
    } finally {
      if (flight === mine) {
        busy.value = false
        if (options.every && !over) timer = setTimeout(() => { void reload() }, document.hidden ? options.every * 4 : options.every)
      }
    }
  }
  watch(() => options.on?.(), () => { data.value = options.on ? null : data.value; void reload() }, { immediate: true })
  watch(() => link.lost, (lost) => { if (!lost) void reload() })
  onScopeDispose(() => { over = true; flight?.abort(); clearTimeout(timer) })
  return { data, problem, busy, reload }
}
