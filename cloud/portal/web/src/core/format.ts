// Numbers and times as people read them: value and unit apart, resolution kept, the project's zone.
import { lang, t } from './i18n'
import { settings } from './settings'
import type { Point } from './types'

export interface Shown { text: string; unit: string }
const UNITS: Record<string, string> = { degC: '°C', 'm3/h': 'm³/h', m3: 'm³', 'W/m2': 'W/m²', '1': '' }
const DASH = '–'

function digits(resolution: number | null | undefined, value: number): number {
  if (!resolution || resolution >= 1) return Math.abs(value) < 10 && !Number.isInteger(value) && !resolution ? 1 : 0
  return Math.min(3, Math.ceil(-Math.log10(resolution) - 1e-9))
}
export function number(value: number | null | undefined, places = 0): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH
  return new Intl.NumberFormat(lang.value === 'zh' ? 'zh-CN' : 'en-GB', { minimumFractionDigits: places, maximumFractionDigits: places }).format(value === 0 ? 0 : value)
}
/** Power, kW inside: MW from 1000 kW on. */
export function power(kw: number | null | undefined): Shown {
  if (kw === null || kw === undefined) return { text: DASH, unit: '' }
  return Math.abs(kw) >= 1000 ? { text: number(kw / 1000, 2), unit: 'MW' } : { text: number(kw, Math.abs(kw) < 100 ? 1 : 0), unit: 'kW' }
}
/** Energy, kWh inside: the reader's unit. */
export function energy(kwh: number | null | undefined): Shown {
  if (kwh === null || kwh === undefined) return { text: DASH, unit: settings.energy }
  if (settings.energy === 'GJ') return { text: number(kwh * 0.0036, 2), unit: 'GJ' }
  return Math.abs(kwh) >= 100_000 ? { text: number(kwh / 1000, 1), unit: 'MWh' } : { text: number(kwh, 0), unit: 'kWh' }
}
/** A point's value. States become words. */
export function shown(point: Point | undefined, value: number | null | undefined): Shown {
  if (!point) return { text: number(value, 2), unit: '' }
  if (value === null || value === undefined || !Number.isFinite(value)) return { text: DASH, unit: '' }
  if (point.unit === 'kW') return power(value)
  if (point.unit === 'kWh') return energy(value)
  if (point.kind === 'state' || point.kind === 'alarm' || point.kind === 'command') {
    if (point.high === 1 && (value === 0 || value === 1)) return { text: t(point.kind === 'alarm' ? (value ? 'word.raised' : 'word.clear') : (value ? 'word.on' : 'word.off')), unit: '' }
    return { text: number(value), unit: '' }
  }
  return { text: number(value, digits(point.resolution, value)), unit: UNITS[point.unit] ?? point.unit }
}
export const unitText = (unit: string): string => UNITS[unit] ?? unit

export function age(ms: number): string {
  const s = Math.max(0, ms / 1000)
  if (s < 90) return t('age.s', { n: Math.round(s) })
  if (s < 5400) return t('age.min', { n: Math.round(s / 60) })
  if (s < 172_800) return t('age.h', { n: Math.round(s / 3600) })
  return t('age.d', { n: Math.round(s / 86_400) })
}
/** How long, seconds inside, exact to the minute. */
export function span(s: number): string {
  if (s < 60) return t('age.s', { n: number(s) })
  const minutes = Math.round(s / 60)
  return [minutes >= 60 ? t('age.h', { n: number(Math.floor(minutes / 60)) }) : '', minutes % 60 || minutes < 60 ? t('age.min', { n: minutes % 60 }) : ''].filter(Boolean).join(' ')
}
// Times stand in the project's zone; where no single project is meant, in the installation's (never silently in the reader's).
let installation: string | undefined
export const setZone = (given: string | undefined): void => { installation = given || undefined }
export const zone = (given?: string): string | undefined => given || installation
export function zoneLabel(given?: string): string {
  const part = new Intl.DateTimeFormat('en-GB', { timeZone: zone(given), timeZoneName: 'shortOffset' }).formatToParts(Date.now()).find((p) => p.type === 'timeZoneName')
  return (part?.value ?? '').replace('GMT', 'UTC')
}
export function clockTime(at: number | null | undefined, timeZone?: string): string {
  if (!at) return DASH
  return new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hour12: false, timeZone: zone(timeZone) }).format(at)
}
export function clockSeconds(at: number, timeZone?: string): string {
  return new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false, timeZone: zone(timeZone) }).format(at)
}
export function dateTime(at: number | null | undefined, timeZone?: string): string {
  if (!at) return DASH
  const parts = new Intl.DateTimeFormat('en-CA', { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false, timeZone: zone(timeZone) }).formatToParts(at)
  const of = (type: string): string => parts.find((p) => p.type === type)?.value ?? ''
  return `${of('year')}-${of('month')}-${of('day')} ${of('hour')}:${of('minute')}:${of('second')}`
}
export const name = (thing: { name_zh: string; name_en: string } | null | undefined): string => (thing ? (lang.value === 'zh' ? thing.name_zh : thing.name_en) : DASH)
export const words = (thing: { zh: string; en: string } | null | undefined): string => (thing ? (lang.value === 'zh' ? thing.zh : thing.en) : DASH)
