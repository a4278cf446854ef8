import { spawn } from "node:child_process";

/** Readings of one thing, in the order of their rounds. */
export interface Series {
  readonly name: string;
  readonly unit: "ms" | "% of a core" | "MiB";
  readonly samples: number[];
}

export interface Summary {
  readonly name: string;
  readonly unit: Series["unit"];
  readonly rounds: number;
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export const series = (name: string, unit: Series["unit"] = "ms"): Series => ({
  name,
  unit,
  samples: [],
});

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/** The reading that this part of all are at most, e.g. 0.99. */
export function quantile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

export function summary({ name, unit, samples }: Series): Summary {
  return {
    name,
    unit,
    rounds: samples.length,
    median: median(samples),
    least: Math.min(...samples),
    most: Math.max(...samples),
  };
}

/** The same things each round, each round beginning with another one, so that none always follows the same neighbour. */
export async function interleave(
  rounds: number,
  contestants: readonly ((round: number) => Promise<void>)[],
): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (let place = 0; place < contestants.length; place += 1) {
      await contestants[(round + place) % contestants.length]?.(round);
    }
  }
}

export interface Spawned {
  /** Wall ms when it was started. */
  readonly startedAt: number;
  /** From the start to the exit, ms. */
  readonly wallMs: number;
  readonly stdout: string;
}

/** Runs a program to its end; a code other than 0 is an error. */
export function timed(
  argv: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string } = {},
): Promise<Spawned> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const startedAt = performance.timeOrigin + performance.now();
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    let exitedAt = 0;
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
    child.once("error", reject);
    child.once("exit", () => {
      exitedAt = performance.timeOrigin + performance.now();
    });
    child.once("close", (code) => {
      if (code === 0) return resolve({ startedAt, wallMs: exitedAt - startedAt, stdout });
      reject(new Error(`${argv.slice(0, 3).join(" ")} ended with ${code}: ${stderr || stdout}`));
    });
  });
}

/** Wall time in the same clock as the `date +%s%N` of the agents, ms. */
export const wallMs = (): number => performance.timeOrigin + performance.now();
