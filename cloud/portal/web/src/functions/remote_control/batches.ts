// What a batch of commands looks like on the way between portal and pages.
import { t, word } from '@/core/i18n'
import type { Holder, Named, Problem } from '@/core/types'

export interface BatchItem {
  n: number; project_id: number; device_id: number; device: Named | null; wish: { kind: string; point_id: number; value: number | null; low: number | null; high: number | null; hold_s: number }
  state: string; command_id: string | null; code: string; why: { zh: string; en: string } | null; before: { value: number; until_ms: number; holder: string } | null
  readback: number | null; sent_ms: number | null; ended_ms: number | null
}
export interface BatchRow {
  id: string; state: string; kind: string; point_id: number; wish: { value?: number | null; hold_s?: number; gap_s?: number; on_failure?: string }; reason: string; actor: string; authority: number; devices: number; kw: number
  second: { zh: string; en: string }[]; approval_id: string | null; of: string | null; created_ms: number; start_ms: number; ended_ms: number | null; cancelled_by: string; counts: Record<string, number>
}
export interface Batch extends BatchRow { items: BatchItem[]; restored_by: string | null; mine: boolean; left?: { device_id: number; why: { zh: string; en: string } }[] }
export interface BatchPage { total: number; offset: number; rows: BatchRow[] }
export interface BatchPreview {
  rows: {
    device: Named; project_id: number; rated_kw: number; problem: Problem | null; locked_out: boolean; limits: { low: number; high: number } | null; holders: (Holder & { words?: { zh: string; en: string } })[]
    requested?: number | null; effective?: number | null; wins?: boolean; stronger?: Holder[]; limited_by?: Holder | null; until_ms?: number; online: boolean; local_manual: boolean
  }[]
  possible: number; kw: number; second: { zh: string; en: string }[]
  effects: { project_id: number; hours: number[]; room_k: number[]; kwh: number; yuan: number | null; how: string; unpredicted: number[] }[]
}
export const BATCH_STATES = ['pending', 'running', 'done', 'failed', 'cancelled']
export const BATCH_KINDS = ['hold', 'release', 'pulse', 'start', 'stop', 'lock', 'unlock', 'restore']
/** How far one device of a batch is; what is not sent has no command yet. */
export const itemState = (state: string): string => (state === 'waiting' ? t('batch.itemWaits') : state === 'cancelled' ? t('batch.itemCancelled') : word('command', state))
export const ENDED = ['verified', 'failed', 'expired', 'superseded', 'refused', 'unknown', 'cancelled']
