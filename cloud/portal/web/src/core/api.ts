// One way to the API: JSON in and out, the session's token on changes, failures as `ApiError` with the stable code.
import { reactive } from 'vue'
import type { Problem } from './types'

export class ApiError extends Error {
  constructor(readonly problem: Problem) { super(problem.code) }
}

/** What the page knows of the way to the portal. `since` is when it was lost. */
export const link = reactive({ lost: false, since: 0, skew: 0 })
// A portal that hangs does not answer at all; longer than this is a lost link.
const SILENCE_MS = 30_000
let csrf = ''
let onSignedOut: () => void = () => undefined
let onStale: () => Promise<boolean> = () => Promise.resolve(false)

export function setToken(token: string): void { csrf = token }
export function whenSignedOut(act: () => void): void { onSignedOut = act }
/** What asks for a fresh proof of identity; true = proved, the refused call is made once more. */
export function whenStale(act: () => Promise<boolean>): void { onStale = act }
/** The portal's clock, so that ages are true on a laptop whose clock is not. */
export function now(): number { return Date.now() + link.skew }

export function markLost(since = now()): void { if (!link.lost) { link.lost = true; link.since = since } }
export function markFound(): void { link.lost = false }

export async function call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}, signal?: AbortSignal, second = false): Promise<T> {
  const init: RequestInit = { method, headers: { Accept: 'application/json', ...headers }, credentials: 'same-origin', signal: signal ? AbortSignal.any([signal, AbortSignal.timeout(SILENCE_MS)]) : AbortSignal.timeout(SILENCE_MS) }
  if (body !== undefined) { init.body = JSON.stringify(body); (init.headers as Record<string, string>)['Content-Type'] = 'application/json' }
  if (method !== 'GET') (init.headers as Record<string, string>)['X-Kang-CSRF'] = csrf
  let answer: Response
  try {
    answer = await fetch(`/api/v1/${path}`, init)
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    markLost()
    throw new ApiError({ code: 'E-OFFLINE', status: 0, request_id: '', zh: '无法连接平台。请检查网络；恢复后页面会自动继续。', en: 'The platform cannot be reached. Check the network; the page goes on by itself when it returns.' })
  }
  markFound()
  if (answer.ok) return (answer.status === 204 ? undefined : await answer.json()) as T
  let problem: Problem
  try { problem = await answer.json() as Problem } catch {
    problem = { code: `E-HTTP-${answer.status}`, status: answer.status, request_id: answer.headers.get('x-request-id') ?? '', zh: '平台没有正常应答。请稍后重试。', en: 'The platform did not answer properly. Try again in a moment.' }
  }
  if (problem.code === 'E-SESSION') onSignedOut()
  if (problem.code === 'E-FACTOR-AGE' && !second && await onStale()) return call<T>(method, path, body, headers, signal, true)
  throw new ApiError(problem)
}

export const get = <T>(path: string, query: Record<string, unknown> = {}, signal?: AbortSignal): Promise<T> => call<T>('GET', withQuery(path, query), undefined, {}, signal)
export const post = <T>(path: string, body: unknown = {}, headers: Record<string, string> = {}): Promise<T> => call<T>('POST', path, body, headers)

export function withQuery(path: string, query: Record<string, unknown>): string {
  const wanted = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== null && value !== '') wanted.set(key, String(value))
  const text = wanted.toString()
  return text ? `${path}?${text}` : path
}

/** Let the browser save what the API exports. */
export function download(path: string, query: Record<string, unknown>): void { window.location.assign(`/api/v1/${withQuery(path, query)}`) }
