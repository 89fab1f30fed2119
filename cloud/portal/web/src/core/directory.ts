// The point catalogue and the projects, read once and shared.
import { computed, shallowRef } from 'vue'
import { get } from './api'
import type { Point, Project } from './types'

const points = shallowRef(new Map<number, Point>())
export const projects = shallowRef<Project[]>([])
export const projectById = computed(() => new Map(projects.value.map((p) => [p.id, p])))
let asked: Promise<void> | null = null

export function loadDirectory(): Promise<void> {
  asked ??= Promise.all([get<Point[]>('catalogue'), get<Project[]>('projects')]).then(([p, q]) => {
    points.value = new Map(p.map((one) => [one.id, one]))
    projects.value = q
  }).catch((error: unknown) => { asked = null; throw error })
  return asked
}
export function forgetDirectory(): void { asked = null }
export const pointOf = (id: number): Point | undefined => points.value.get(id)
export const allPoints = (): Point[] => [...points.value.values()]
export const pointId = (key: string): number => { for (const p of points.value.values()) if (p.key === key) return p.id; return 0 }
