// One slow clock for every age on the page.
import { ref } from 'vue'
import { now } from './api'

export const tick = ref(now())
setInterval(() => { tick.value = now() }, 1000)
