// What needs a fresh proof of identity asks for it here; the call that was refused is then made again.
import { reactive } from 'vue'
import { whenStale } from './api'

export const stepUp = reactive<{ open: boolean; done: ((proved: boolean) => void) | null }>({ open: false, done: null })
let running: Promise<boolean> | null = null
function ask(): Promise<boolean> {
  running ??= new Promise<boolean>((resolve) => { stepUp.open = true; stepUp.done = resolve }).finally(() => { stepUp.open = false; stepUp.done = null; running = null })
  return running
}
whenStale(ask)
