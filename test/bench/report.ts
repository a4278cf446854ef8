import { cpus, release, totalmem } from "node:os";
import type { Pace, Steadiness } from "./calibrate.ts";
import { median, summary, type Series, type Summary } from "./measure.ts";

/** What a block found: readings, and goals over them. */
export interface Findings {
  readonly series: readonly Series[];
  readonly goals: readonly Goal[];
  readonly notes?: readonly string[];
}

export interface Goal {
  readonly id: string;
  readonly what: string;
  readonly value: number;
  readonly limit: number;
  readonly better: "at most" | "at least";
  readonly unit:
    | "x"
    | "ms"
    | "files"
    | "round trips"
    | "connections"
    | "workers"
    | "% of a core"
    | "MiB";
  /** Counts do not depend on how fast the machine is. */
  readonly isCount?: boolean;
}

export type Verdict = "met" | "missed" | "too noisy" | "too few rounds";

export interface BlockReport {
  readonly name: string;
  readonly steady: boolean;
  readonly tries: number;
  readonly before: Pace;
  readonly after: Pace;
  readonly series: readonly Summary[];
  readonly goals: readonly (Goal & { readonly verdict: Verdict })[];
  readonly notes: readonly string[];
}

export interface Report {
  readonly machine: {
    readonly cpus: number;
    readonly model: string;
    readonly memoryGiB: number;
    readonly kernel: string;
    readonly node: string;
  };
  readonly blocks: readonly BlockReport[];
}

/** A goal is judged by the median of at least so many rounds. */
const LEAST_ROUNDS = 5;

/** Median of `a` over median of `b`. */
export const ratio = (a: Series, b: Series): number => median(a.samples) / median(b.samples);

export function blockReport(name: string, found: Steadiness & { value: Findings }): BlockReport {
  const { steady, tries, before, after, value } = found;
  const series = value.series.map(summary);
  const rounds = Math.min(...series.map((each) => each.rounds));
  return {
    name,
    steady,
    tries,
    before,
    after,
    series,
    goals: value.goals.map((goal) => ({ ...goal, verdict: judge(goal, { steady, rounds }) })),
    notes: value.notes ?? [],
  };
}

export function judge(
  goal: Goal,
  { steady, rounds }: { steady: boolean; rounds: number },
): Verdict {
  if (goal.isCount !== true && rounds < LEAST_ROUNDS) return "too few rounds";
  if (goal.isCount !== true && !steady) return "too noisy";
  const met = goal.better === "at most" ? goal.value <= goal.limit : goal.value >= goal.limit;
  return met ? "met" : "missed";
}

export const machine = (): Report["machine"] => ({
  cpus: cpus().length,
  model: cpus()[0]?.model ?? "unknown",
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  kernel: release(),
  node: process.version,
});

export function reportText(report: Report): string {
  const { cpus: count, model, memoryGiB, kernel, node } = report.machine;
  const lines = [`${count} x ${model}, ${memoryGiB} GiB, Linux ${kernel}, Node ${node}`];
  for (const block of report.blocks) lines.push("", ...blockLines(block));
  return `${lines.join("\n")}\n`;
}

function blockLines(block: BlockReport): string[] {
  const { before, after } = block;
  const pace = `node -e 0 ${number(before.nodeMs)} -> ${number(after.nodeMs)} ms, fdatasync ${number(before.syncMs)} -> ${number(after.syncMs)} ms`;
  const noise = block.steady ? "steady" : `too noisy, ${block.tries} tries`;
  const width = Math.max(0, ...block.series.map(({ name }) => name.length));
  return [
    `${block.name}   (${noise}: ${pace})`,
    ...block.series.map(
      (each) =>
        `  ${each.name.padEnd(width)}  ${number(each.median).padStart(7)} ${each.unit}  (${number(each.least)} to ${number(each.most)}, ${each.rounds} rounds)`,
    ),
    ...block.goals.map(
      (goal) =>
        `  ${goal.verdict.toUpperCase().padEnd(9)} ${goal.id}: ${goal.what}: ${number(goal.value)} ${goal.unit}, goal ${goal.better} ${goal.limit}`,
    ),
    ...block.notes.map((note) => `  note: ${note}`),
  ];
}

const number = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
