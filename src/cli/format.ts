import type { StatusView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";

/** `800 ms`, `1.2 s`, `3 min 5 s`: how long something took. */
export function formatMs(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `12s`, `3m`, `2h`, `5d`: how old something is. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

export const formatTime = (wallMs: number): string =>
  `${new Date(wallMs).toISOString().slice(0, 19).replace("T", " ")}Z`;

/** Status with what it rests on: `running (tool: Bash; hook, 3s ago)`. */
export function formatStatus(status: StatusView | null): string {
  if (status === null) return "-";
  const reason = cleanLine(status.reason, 80);
  return `${status.status} (${reason === "" ? "" : `${reason}; `}${status.source}, ${formatAge(status.age_ms)} ago)`;
}

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;
