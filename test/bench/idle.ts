import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { series, median } from "./measure.ts";
import type { Product } from "./product.ts";
import { makePrompt } from "./prompt.ts";
import type { Findings } from "./report.ts";

/** How long one reading takes, s. */
const WINDOW_S = 10;

/** P10: what the controller costs while nothing happens, and while it follows live runs whose agents are silent. */
export async function idle(product: Product, rounds: number): Promise<Findings> {
  const quiet = series("nothing live: CPU", "% of a core");
  const quietMemory = series("nothing live: memory (PSS)", "MiB");
  const count = product.workers.length;
  const live = series(`${count} live runs, silent: CPU`, "% of a core");
  const liveMemory = series(`${count} live runs, silent: memory (PSS)`, "MiB");
  const read = async (cpu: typeof quiet, memory: typeof quiet) => {
    for (let round = 0; round < rounds; round += 1) {
      const before = cpuMs(product.controllerPid);
      await sleep(WINDOW_S * 1_000);
      cpu.samples.push(((cpuMs(product.controllerPid) - before) / (WINDOW_S * 1_000)) * 100);
      memory.samples.push(pssMiB(product.controllerPid));
    }
  };
  await read(quiet, quietMemory);
  const runs = await Promise.all(
    product.workers.map((worker) => product.dispatch(makePrompt(worker).text, worker)),
  );
  await read(live, liveMemory);
  await product.settle(runs.map(({ runId }) => runId));
  return {
    series: [quiet, quietMemory, live, liveMemory],
    goals: [
      {
        id: "P10",
        what: "nothing live, CPU",
        value: median(quiet.samples),
        limit: 0.1,
        better: "at most",
        unit: "% of a core",
      },
      {
        id: "P10",
        what: "nothing live, memory",
        value: median(quietMemory.samples),
        limit: 80,
        better: "at most",
        unit: "MiB",
      },
      {
        id: "P10",
        what: `${count} live runs, CPU`,
        value: median(live.samples),
        limit: 0.6,
        better: "at most",
        unit: "% of a core",
      },
      {
        id: "P10",
        what: `${count} live runs, memory`,
        value: median(liveMemory.samples),
        limit: 160,
        better: "at most",
        unit: "MiB",
      },
    ],
    notes: [
      "the goal for connected workers was set for 1,000 of them: this pool is as large as local workers allow here",
    ],
  };
}

/** Time on a processor so far, of all threads: the scheduler's own count, in ns there. */
function cpuMs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`)
    .map((thread) =>
      Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]),
    )
    .reduce((sum, ns) => sum + ns / 1e6, 0);
}

function pssMiB(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]) / 1024;
}
