// Passkeys: the portal's JSON to what the browser wants, and back.
type Json = Record<string, unknown>
const bytes = (text: string): ArrayBuffer => {
  const raw = atob(text.replace(/-/g, '+').replace(/_/g, '/').padEnd(Math.ceil(text.length / 4) * 4, '='))
  return Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer
}
const text = (buffer: ArrayBuffer): string => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
const listed = (list: unknown): PublicKeyCredentialDescriptor[] => ((list ?? []) as Json[]).map((c) => ({ type: 'public-key' as const, id: bytes(String(c.id)) }))

export const passkeysHere = (): boolean => typeof window.PublicKeyCredential === 'function' && window.isSecureContext

export async function makePasskey(options: Json): Promise<Json> {
  const user = options.user as Json
  const made = await navigator.credentials.create({ publicKey: { ...options, challenge: bytes(String(options.challenge)), user: { ...user, id: bytes(String(user.id)) }, excludeCredentials: listed(options.excludeCredentials) } as unknown as PublicKeyCredentialCreationOptions }) as PublicKeyCredential
  const answer = made.response as AuthenticatorAttestationResponse
  return { id: made.id, rawId: text(made.rawId), type: made.type, response: { clientDataJSON: text(answer.clientDataJSON), attestationObject: text(answer.attestationObject) } }
}
export async function usePasskey(options: Json): Promise<Json> {
  const made = await navigator.credentials.get({ publicKey: { ...options, challenge: bytes(String(options.challenge)), allowCredentials: listed(options.allowCredentials) } as unknown as PublicKeyCredentialRequestOptions }) as PublicKeyCredential
  const answer = made.response as AuthenticatorAssertionResponse
  return { id: made.id, rawId: text(made.rawId), type: made.type, response: { clientDataJSON: text(answer.clientDataJSON), authenticatorData: text(answer.authenticatorData), signature: text(answer.signature), userHandle: answer.userHandle ? text(answer.userHandle) : null } }
}
