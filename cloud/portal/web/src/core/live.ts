// One EventSource per tab. Pages say what they look at; the union is watched, values land in one map, other events go to listeners.
import { onScopeDispose, reactive, ref, watch, type WatchSource } from 'vue'
import { get, markFound, markLost, now, post } from './api'
import type { Command } from './types'

export interface LiveValue { at_ms: number; value: number | null; quality: number }
export const liveValues = reactive(new Map<string, LiveValue>())
export const streaming = ref(false)
export const keyOf = (device: number, point: number): string => `${device}:${point}`

interface Wish { projects: number[]; devices: number[] }
type Listener = (event: Record<string, unknown>) => void
const wishes = new Map<symbol, Wish>()
const listeners = new Map<string, Set<Listener>>()
let source: EventSource | null = null
let streamId = ''
let sent = ''
let timer: ReturnType<typeof setTimeout> | undefined
let retry: ReturnType<typeof setTimeout> | undefined
let pending: [number, number, number, number | null, number][] = []
let frame = 0

function union(): Wish {
  const projects = new Set<number>(), devices = new Set<number>()
  for (const wish of wishes.values()) { wish.projects.forEach((p) => projects.add(p)); wish.devices.forEach((d) => devices.add(d)) }
  return { projects: [...projects].sort((a, b) => a - b), devices: [...devices].sort((a, b) => a - b).slice(0, 500) }
}
function flush(): void {
  frame = 0
  const rows = pending
  pending = []
  for (const [device, point, at_ms, value, quality] of rows) {
    const key = keyOf(device, point), known = liveValues.get(key)
    if (!known || at_ms >= known.at_ms) liveValues.set(key, { at_ms, value, quality })
  }
}
export function put(rows: [number, number, number, number | null, number][]): void {
  pending.push(...rows)
  if (!frame) frame = requestAnimationFrame(flush)
}
function announce(type: string, event: Record<string, unknown>): void { listeners.get(type)?.forEach((listener) => listener(event)) }

// The portal beats every 5 s. Two missed beats and a bit: the stream is dead, whatever the browser believes.
const SILENCE_MS = 12_000
let heard = now()
function hear(): void { heard = now() }
setInterval(() => {
  if (!source || now() - heard <= SILENCE_MS) return
  markLost(heard)
  close()
  again()
}, 1000)

function open(): void {
  const wish = union()
  hear()
  sent = JSON.stringify(wish)
  source = new EventSource(`/api/v1/live?projects=${wish.projects.join(',')}&devices=${wish.devices.join(',')}`)
  for (const type of ['hello', 'beat', 'values', 'command', 'alarm', 'agent', 'plan', 'planned', 'response']) source.addEventListener(type, hear)
  source.addEventListener('hello', (e) => {
    streamId = (JSON.parse((e as MessageEvent<string>).data) as { stream_id: string }).stream_id
    streaming.value = true
    markFound()
    if (JSON.stringify(union()) !== sent) subscribe()
  })
  source.addEventListener('values', (e) => put((JSON.parse((e as MessageEvent<string>).data) as { rows: [number, number, number, number | null, number][] }).rows))
  for (const type of ['command', 'alarm', 'agent', 'plan', 'planned', 'response']) source.addEventListener(type, (e) => announce(type, JSON.parse((e as MessageEvent<string>).data) as Record<string, unknown>))
  source.addEventListener('bye', () => { close(); again() })
  source.addEventListener('error', () => { streaming.value = false; streamId = ''; close(); again() })
}
function again(): void {
  clearTimeout(retry)
  retry = setTimeout(() => {
    // Ask first: a stream cannot tell a lost network from an ended session, an ordinary call can.
    get('session', {}, AbortSignal.timeout(6000)).then(() => { if (wishes.size) open() }).catch(() => { markLost(); if (wishes.size && !source) again() })
  }, 2000)
}
function subscribe(): void {
  clearTimeout(timer)
  timer = setTimeout(() => {
    const wish = union(), text = JSON.stringify(wish)
    if (!source) { if (wishes.size) open(); return }
    if (text === sent || !streamId) return
    sent = text
    post(`live/${streamId}`, { project_ids: wish.projects, device_ids: wish.devices }).catch(() => { sent = '' })
  }, 60)
}
export function close(): void { source?.close(); source = null; streaming.value = false; streamId = '' }

/** Watch projects (and lease devices) while this scope lives. */
export function useLive(projects: () => number[], devices: () => number[] = () => []): void {
  const key = Symbol('watch')
  watch([projects, devices] as WatchSource<number[]>[], () => { wishes.set(key, { projects: projects(), devices: devices() }); subscribe() }, { immediate: true })
  onScopeDispose(() => { wishes.delete(key); subscribe() })
}
export function useEvent(type: 'command' | 'alarm' | 'agent' | 'plan' | 'planned' | 'response', listener: Listener): void {
  const set = listeners.get(type) ?? new Set<Listener>()
  listeners.set(type, set)
  set.add(listener)
  onScopeDispose(() => { set.delete(listener) })
}
export function useCommands(listener: (command: Command) => void): void { useEvent('command', (event) => listener(event as unknown as Command)) }
