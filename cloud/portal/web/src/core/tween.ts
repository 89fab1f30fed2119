// Numbers move to where they go within 240 ms, unless the reader prefers stillness.
import { onScopeDispose, ref, watch, type Ref } from 'vue'

const still = window.matchMedia('(prefers-reduced-motion: reduce)')
export function useTween(target: () => number | null): Ref<number | null> {
  const value = ref<number | null>(target())
  let frame = 0
  watch(target, (to) => {
    cancelAnimationFrame(frame)
    const from = value.value
    if (to === null || from === null || still.matches || document.hidden || from === to) { value.value = to; return }
    const start = performance.now()
    const step = (at: number): void => {
      const k = Math.min(1, (at - start) / 240)
      value.value = from + (to - from) * (1 - (1 - k) ** 3)
      if (k < 1) frame = requestAnimationFrame(step)
      else value.value = to
    }
    frame = requestAnimationFrame(step)
  })
  onScopeDispose(() => cancelAnimationFrame(frame))
  return value
}
