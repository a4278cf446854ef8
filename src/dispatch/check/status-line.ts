import { cleanText } from "../../domain/text.ts";
import type { Checked } from "./judge.ts";

/*
 * The lines of the status log (README, "Silent check"): `name=value` pairs in a fixed order, one blank between them. Values hold no
 * blank, but for the last one of a line, which is a JSON string. `-`: there is none.
 */

export interface SweepCounts {
  readonly workers: number;
  readonly read: number;
  readonly asleep: number;
  readonly unreachable: number;
  readonly leftAlone: number;
  readonly missing: number;
  readonly changed: number;
  readonly corrected: number;
  readonly repaired: number;
}

export function changeLine(now: number, checked: Checked): string {
  const { worker, run, machine, window, was, status, source, reason, ageMs, found } = checked;
  return line(
    now,
    "change",
    {
      worker: worker.name,
      window,
      status,
      source,
      age_s: Math.floor(ageMs / 1_000),
      run: run?.run_id ?? null,
      machine,
      was,
      found: found.length === 0 ? "ok" : found.join(","),
    },
    reason,
  );
}

/** A worker that the log knew and that is no more. */
export const goneLine = (now: number, worker: string): string =>
  line(
    now,
    "change",
    {
      worker,
      window: null,
      status: null,
      source: "controller",
      age_s: 0,
      run: null,
      machine: null,
      was: null,
      found: "destroyed",
    },
    "the worker was destroyed",
  );

export const sweepLine = (now: number, scope: string, counts: SweepCounts, ms: number): string =>
  [
    head(now, "sweep"),
    `scope=${word(scope)}`,
    ...Object.entries(counts).map(
      ([name, count]) => `${name === "leftAlone" ? "left_alone" : name}=${count}`,
    ),
    `ms=${Math.round(ms)}`,
  ].join(" ");

export const errorLine = (now: number, code: string, message: string): string =>
  `${head(now, "error")} code=${word(code)} message=${quoted(message, 500)}`;

function line(
  now: number,
  kind: string,
  fields: Readonly<Record<string, string | number | null>>,
  reason: string,
): string {
  const pairs = Object.entries(fields).map(
    ([name, value]) => `${name}=${value === null ? "-" : word(String(value))}`,
  );
  return `${head(now, kind)} ${pairs.join(" ")} reason=${quoted(reason, 300)}`;
}

const head = (now: number, kind: string): string =>
  `time=${new Date(now).toISOString()} kind=${kind}`;

/** What a name may not hold in a line becomes `?`: window names are written by whoever sits at the worker. */
function word(text: string): string {
  const clean = cleanText(text, 60).replace(/[^A-Za-z0-9:._,@+/-]/gu, "?");
  return clean === "" ? "-" : clean;
}

const quoted = (text: string, max: number): string => JSON.stringify(cleanText(text, max));
