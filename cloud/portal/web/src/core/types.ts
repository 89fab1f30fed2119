// Shapes of the API's answers; they follow cloud/functions/*/views.py and api.py.
export interface Session { name: string; display_name: string; roles: string[]; operations: string[]; csrf: string; version: string; demo: boolean; now_ms: number; timezone: string
  restricted: string; factor_ms: number | null; factors: { password: boolean; totp: boolean; passkeys: number } }
export interface Point { id: number; key: string; kind: string; unit: string; zh: string; en: string; low: number | null; high: number | null; resolution: number | null }
export interface DevicePoint extends Point { max_silent_s: number; writable: boolean; verify_within_s: number; write: { low: number; high: number; pulse: boolean; whole: boolean } | null }
export interface Value { point_id: number; at_ms: number; value: number | null; quality: number; max_silent_s: number | null }
export interface Named { id: number; code: string; name_zh: string; name_en: string }
export interface Project extends Named {
  region: string; latitude: number; longitude: number; timezone: string; heated_area_m2: number; kind: string; attributes: Record<string, unknown>; profiles?: Record<string, number>
}
export type Severity = 'critical' | 'major' | 'minor' | 'warning' | 'info'
export interface RoomCount { low: number; total: number; measured: number; kept: number; coldest: number | null }
export interface ProjectSummary extends Project {
  power_kw: number | null; power_measured: number; power_of: number; heat_kw: number | null; w_per_m2: number | null; heat_w_per_m2: number | null; w_per_m2_k: number | null
  outdoor_c: number | null; rooms: RoomCount; soc: number | null; alarms: Record<Severity, number>; agents_total: number; agents_online: number
  devices_total: number; devices_online: number; devices_silent: number; condition: string
}
export interface FlowNode { id: string; side: string; kw: number | null; heat_kw: number | null; measured: number; of: number; device_ids: number[]; at_ms: number | null; soc: number | null }
export interface FlowLink { source: string; target: string; kw: number; kind: string }
export interface Flow { nodes: FlowNode[]; links: FlowLink[]; at_ms: number | null }
export interface Need {
  kind: 'alarm' | 'agent' | 'devices' | 'rooms' | 'quarantine' | 'command'; of?: number; value?: number | null; limit?: number | null; severity: Severity; project_id: number; count: number; since_ms: number | null; zh?: string; en?: string; rule?: string
  device_ids?: number[]; device_id?: number; device?: { id: number; name_zh: string; name_en: string } | null; agent_id?: string; reason?: string
}
export interface Totals {
  projects: number; normal: number; critical: number; offline: number; partial: number; alarm: number; devices_silent: number; rooms_coldest: number | null; power_kw: number | null; power_projects: number; heat_kw: number | null; heat_projects: number
  rooms_total: number; rooms_measured: number; rooms_kept: number; rooms_low: number | null; devices_total: number; devices_online: number; agents_total: number; agents_online: number
  alarms: Record<Severity, number>; flow: Flow
}
export interface Overview { at_ms: number; totals: Totals; projects: ProjectSummary[]; needs: Need[] }
export interface PowerLine { resolution_s: number; of: number; at_ms: number[]; kw: number[]; low: number[]; high: number[]; measured: number[] }
export interface Series { device_id: number; point_id: number; resolution_s: number; at_ms: number[]; mean: (number | null)[]; low: (number | null)[]; high: (number | null)[]; count: number[]; quality: number[] }
export interface Room {
  device_id: number; code: string; name_zh: string; name_en: string; sensor: boolean; value: number | null; at_ms: number | null; quality: number | null; fresh: boolean
  setpoint: number | null; location: string; attributes: Record<string, unknown>
}
export interface Rooms extends RoomCount { rooms: Room[] }
export interface Why { kind: string; since_ms?: number | null; holder?: string; reason?: string; code?: string; point_id?: number; authority?: number; value?: number | null; until_ms?: number; words?: { zh: string; en: string }; reason_words?: { zh: string; en: string } }
export interface DeviceRow extends Named {
  project_id: number; agent_id: string; template: string; profile: string; parent_id: number | null; location: string; rated_kw: number; attributes: Record<string, unknown>
  condition: string; why: Why; alarms: Record<string, number>; last_ok_ms: number | null; key: Value[]
}
export interface DevicePage { total: number; offset: number; rows: DeviceRow[]; profiles: Record<string, number>; conditions: Record<string, number> }
export interface Holder { point_id: number; authority: number; value: number | null; until_ms: number; holder: string; reason: string }
export interface Device extends DeviceRow {
  points: DevicePoint[]; latest: Value[]; holders: Holder[]; local_manual: boolean; locked_out: boolean; lockout_holder: string; lockout_reason: string; lockout_ms: number; active_alarms: Alarm[]
  startable: boolean; stoppable: boolean; project: Project; parent: Named | null; children: (Named & { profile: string })[]
  template_document: {
    template: string; version: number; maker: string; model: string; protocol: string; poll_s: number; name: { zh: string; en: string } | null
    interlocks: { id: string; zh: string; en: string }[] | null; alarms: { id: string; point: string; when: string; limit: number; severity: Severity; zh: string; en: string }[] | null
  }
}
export interface Alarm {
  id: string; project_id: number; device_id: number; point_id: number; rule: string; severity: Severity; zh: string; en: string; raised_ms: number; cleared_ms: number | null
  value: number | null; limit: number | null; device?: { code: string; name_zh: string; name_en: string; profile: string } | null
  project?: { code: string; name_zh: string; name_en: string } | null; point?: Point
}
export interface Step { state: string; at_ms: number; code: string; detail: string; why?: { zh: string; en: string } | null }
export interface Command {
  id: string; project_id: number; device_id: number; point_id: number; kind: string; value: number | null; low: number | null; high: number | null; authority: number; state: string
  version: number; actor: string; reason: string; created_ms: number; deadline_ms: number; expires_ms: number; readback: number | null; code: string; detail: string; why?: { zh: string; en: string } | null
  verify_by_ms: number | null; steps: Step[]; device?: { code: string; name_zh: string; name_en: string } | null
}
export interface Preview { requested: number | null; effective: number | null; wins: boolean; limited_by: Holder | null; stronger: Holder[]; weaker: Holder[]; replaces: Holder[]; until_ms: number; online: boolean; local_manual: boolean; kind: string }
export interface Agent {
  agent_id: string; project_id: number; uplink: string; revoked: boolean; certificate_serial: string; online: boolean; last_heard_ms: number | null; clock_offset_ms: number | null
  clock_trusted: boolean | null; clock_source: string | null; spool_batches: number | null; spool_readings: number | null; oldest_ms: number | null; version: string | null
  cpu_share: number | null; rss_bytes: number | null; audit_contradictions: number | null; audit_forged: number | null; devices_total: number; devices_online: number
  state: string; issued_ms: number | null; not_after_ms: number | null; revoked_ms: number | null; revoked_by: string | null; revoked_reason: string | null; clone_ms: number | null; clone_detail: string | null
}
export interface Invitation { id: number; agent_id: string; project_id: number; uplink: string; hardware_id: string; created_by: string; expires_ms: number; text?: string; qr?: string }
export interface Held { id: string; project_id: number; agent_id: string; reason: string; detail: string; rows: number; received_ms: number; state: string }
export interface LogRow { id: number; at_ms: number; operation: string; level: string; target: string; process_id: number; operator: string; result: string; code: string; request_id: string; address: string; zh: string; en: string }
export interface Problem { code: string; zh: string; en: string; status: number; request_id: string }
export const ADMIN_ROLES = ['system_admin', 'security_admin', 'audit_admin']
export const ROLES = [...ADMIN_ROLES, 'operator', 'dispatcher', 'engineer', 'finance', 'service', 'grid_dispatcher', 'resident']
export const STATES = ['active', 'locked', 'expired', 'no_role']
export interface Person {
  id: number; name: string; display_name: string; roles: string[]; kind: string; state: string; organisation: { id: number; name_zh: string; name_en: string } | null
  project_ids: number[] | null; region_codes: string[] | null; device_ids: number[] | null; created_ms: number; expires_ms: number | null; last_sign_in_ms: number | null; strong: boolean
}
export interface PeoplePage { total: number; offset: number; rows: Person[] }
export interface Factors { password_ms: number | null; totp: boolean; recovery_left: number; passkeys: { id: string; name: string; created_ms: number; used_ms: number | null }[] }
export interface PersonDetail extends Person { granted: { role: string; by: string; at_ms: number }[]; factors: Factors }
export interface SessionRow { id: string; user_id: number; name: string; display_name: string; address: string; agent: string; method: string; created_ms: number; seen_ms: number; expires_ms: number; factor_ms: number | null; this: boolean }
export interface MySecurity extends Factors { sessions: SessionRow[]; restricted: string }
export interface Organisation { id: number; code: string; name_zh: string; name_en: string; kind: string; people: number; contracts: { id: number; number: string; project_ids: number[]; starts_ms: number; ends_ms: number }[] }
export interface ApprovalAsked { approval?: { id: string; state: string; operation: string; deadline_ms: number } }
export interface ApprovalRow { id: string; operation: string; zh: string; en: string; target: string; payload: string; reason: string; requester: string; requester_name: string; created_ms: number; deadline_ms: number; state: string; decided_by: string | null; decided_ms: number | null; decision: string; mine: boolean; decidable: boolean }
export interface EmergencyRow { id: number; user_id: number; name: string; display_name: string; role: string; reason: string; created_ms: number; until_ms: number; ended_ms: number | null; running: boolean; reviewed_ms: number | null; review: string }
export interface OperationRow { name: string; zh: string; en: string; roles: string[]; changes: boolean; label: string; level: string; open: boolean; safety: boolean; scope: string; factor_s: number | null; two_person: boolean; approvers: string[]; priority: number; audit: string }

export interface AuditRow extends LogRow { object: string; before: string; after: string; channel: string; late: boolean; settled_ms: number | null; linked: number | null }
export interface AuditHealth { known: boolean; failing: boolean; beat_age_ms: number; lag_ms: number; waiting: number; linked: number }
export interface Note { id: string; project_id: number; agent_id: string; up: boolean; author: string; text: string; question: boolean; choices: string[]; created_ms: number; state: string; delivered_ms: number | null; read_ms: number | null; read_by: string; answered_ms: number | null; answered_by: string; answer: string }
export interface AuditVerdict { ok: boolean; records: number; commands: number; checkpoints: number; at_ms: number; cut: { n: number; at_ms: number; covered_ms: number; days: number } | null; findings: { kind: string; n: number; record_id: number; zh: string; en: string; log: string }[] }
export interface FlowRow { id: number; at_ms: number; kind: string; zone: string; site: string; address: string; method: string; result: string; bytes_in: number; bytes_out: number; messages: number; seconds: number; detail: string }
export interface Client {
  id: string; name: string; operations: string[]; project_ids: number[] | null; hidden_fields: string[]; rate: number; burst: number; priority: number; disabled: boolean; certificate: string
  expires_ms: number | null; created_ms: number; created_by: string; version: number; last_ms: number | null; address: string; open: number; calls: number; errors: number; limited: number; rate_now: number; p95_ms: number | null
}
export interface Grantable { name: string; zh: string; en: string; changes: boolean; label: string }
export interface ClientTest { token: boolean; certificate: boolean; projects: string[]; operations: { name: string; zh: string; en: string; allowed: boolean }[] }
