import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interleave, series, timed, type Series } from "./measure.ts";
import type { Product } from "./product.ts";
import { ratio, type Findings, type Goal } from "./report.ts";

const COMMANDS = [
  ["status", "--json"],
  ["run", "list"],
] as const;

/** P9: read commands with a round trip to the controller, against a Node that does nothing. */
export async function cliStart(product: Product, rounds: number): Promise<Findings> {
  const { env, program } = product;
  const nothing = series("node -e 0");
  const runs = COMMANDS.map((words) => ({
    argv: [...program, ...words],
    series: series(`orchestrator ${words.join(" ")}`),
  }));
  const timing = (argv: readonly string[], into: Series) => async () => {
    into.samples.push((await timed(argv, { env })).wallMs);
  };
  await interleave(rounds, [
    timing([process.execPath, "-e", "0"], nothing),
    ...runs.map((run) => timing(run.argv, run.series)),
  ]);
  const goals: Goal[] = runs.map((run) => ({
    id: "P9",
    what: `${run.series.name} / node -e 0`,
    value: ratio(run.series, nothing),
    limit: 1.35,
    better: "at most",
    unit: "x",
  }));
  const notes: string[] = [];
  const [first] = runs;
  const opened = first === undefined ? undefined : await filesOpened(first.argv, env);
  const bare = await filesOpened([process.execPath, "-e", "0"], env);
  if (opened === undefined || bare === undefined)
    notes.push("strace is not installed: files were not counted");
  else {
    notes.push(`of the ${opened} files opened, ${bare} are those of node -e 0`);
    const what = `files opened beyond those of node -e 0 by ${first?.series.name}`;
    goals.push({
      id: "P9",
      what,
      value: opened - bare,
      limit: 12,
      better: "at most",
      unit: "files",
      isCount: true,
    });
  }
  return { series: [nothing, ...runs.map((run) => run.series)], goals, notes };
}

/** Files opened with success by the process and its threads, devices and the kernel's own excepted; undefined without strace. */
async function filesOpened(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<number | undefined> {
  const strace = "/usr/bin/strace";
  if (!existsSync(strace)) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const log = join(folder, "log");
  try {
    await timed([strace, "-f", "-qq", "-e", "trace=openat,open", "-o", log, ...argv], { env });
    const paths = readFileSync(log, "utf8")
      .split("\n")
      .flatMap((line) => /"([^"]+)".* = \d+$/.exec(line)?.[1] ?? []);
    return paths.filter((path) => !/^\/(?:proc|sys|dev)\//.test(path)).length;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
