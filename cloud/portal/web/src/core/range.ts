// Range keys and what they ask the historian for.
import { now } from './api'

export const SPAN: Record<string, number> = { '1h': 3_600_000, '6h': 21_600_000, '1d': 86_400_000, '7d': 604_800_000, '30d': 2_592_000_000, season: 15_552_000_000 }
/** Resolution in seconds; undefined lets the platform choose. */
export const RESOLUTION: Record<string, number | undefined> = { '1h': undefined, '6h': 60, '1d': 60, '7d': 900, '30d': 3600, season: 86_400 }
export function windowOf(range: string): { start: number; end: number } {
  const end = now()
  return { start: Math.floor(end - (SPAN[range] ?? SPAN['1d']!)), end: Math.floor(end) }
}
