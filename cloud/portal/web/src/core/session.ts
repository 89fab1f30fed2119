// Who is signed in and what they may do.
import { computed, ref } from 'vue'
import { call, get, link, setToken } from './api'
import { setZone } from './format'
import { usePasskey } from './webauthn'
import type { Session } from './types'

export const session = ref<Session | null>(null)
export const operations = computed(() => new Set(session.value?.operations ?? []))
export const may = (name: string): boolean => operations.value.has(name)

function take(found: Session): Session {
  session.value = found
  setToken(found.csrf)
  setZone(found.timezone)
  link.skew = found.now_ms - Date.now()
  return found
}
export async function load(): Promise<Session> { return take(await get<Session>('session')) }
export async function redeem(code: string): Promise<Session> { return take(await call<Session>('POST', 'session', { code })) }
export async function enter(name: string, password: string, second: string): Promise<Session> { return take(await call<Session>('POST', 'session', { name, password, second })) }
export async function enterWithPasskey(): Promise<Session> {
  const asked = await get<{ token: string; publicKey: Record<string, unknown> }>('session/passkey')
  return take(await call<Session>('POST', 'session/passkey', { token: asked.token, credential: await usePasskey(asked.publicKey) }))
}
export async function leave(): Promise<void> { await call('DELETE', 'session'); session.value = null }
