// Which meaning a point has, hence which colour; the same everywhere.
import type { Point } from './types'

export type Tone = 'heat' | 'electricity' | 'storage' | 'comfort' | 'grid' | 'neutral'
export function toneOf(point: Point | undefined): Tone {
  if (!point) return 'neutral'
  const key = point.key
  if (/^(room_temp|humidity|co2)/.test(key)) return 'comfort'
  if (/^(soc|stored|charge|discharge|layer_temp|core_temp)/.test(key)) return 'storage'
  if (/temp|heat/.test(key)) return 'heat'
  if (/power|energy|voltage|current|demand|frequency|load_ratio|cop/.test(key)) return 'electricity'
  return 'neutral'
}
