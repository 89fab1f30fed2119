// When two neighbouring readings are too far apart to be joined by a line. Points report by exception and history may be read back coarser
// than the chart's resolution, so the distance usual around here counts, not only the resolution. More than an hour is always a gap.
const HOUR = 3_600_000

/** True when nothing is known between reading k-1 and reading k. */
export function isGap(at: number[], k: number, resolutionS: number): boolean {
  const before = at[k - 1], here = at[k]
  if (before === undefined || here === undefined) return false
  const distance = here - before, own = Math.max(resolutionS, 60) * 1000
  if (distance <= 2.5 * own) return false
  if (distance > Math.max(1.05 * HOUR, 2.5 * own)) return true
  const left = before - (at[k - 2] ?? -Infinity), right = (at[k + 1] ?? Infinity) - here
  const usual = Math.max(own, ...[left, right].filter((d) => Number.isFinite(d)))
  return distance > 2.5 * usual
}
