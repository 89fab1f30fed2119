// Two languages, one key set: `en` must have every key of `zh`, the compiler sees to it.
import { computed, watchEffect } from 'vue'
import { en } from './en'
import { settings } from './settings'
import { zh } from './zh'

export type Key = keyof typeof zh
const books: Record<'zh' | 'en', Record<string, string>> = { zh, en }
export const lang = computed<'zh' | 'en'>(() => (settings.language !== 'auto' ? settings.language : navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en'))
watchEffect(() => { document.documentElement.lang = lang.value === 'zh' ? 'zh-CN' : 'en' })

function fill(text: string, values?: Record<string, unknown>): string {
  return values ? text.replace(/\{(\w+)\}/g, (whole, key: string) => (key in values ? String(values[key]) : whole)) : text
}
export function t(key: Key, values?: Record<string, unknown>): string { return fill(books[lang.value][key] ?? key, values) }
/** A word of a family, e.g. `word('profile', 'heat_pump')`; one the books do not know is shown as it is. */
export function word(family: string, name: string): string { return books[lang.value][`${family}.${name}`] ?? name }
