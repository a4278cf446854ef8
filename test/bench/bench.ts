import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { whileSteady } from "./calibrate.ts";
import { cliStart } from "./cli-start.ts";
import { deadLink } from "./dead-link.ts";
import { detection } from "./detection.ts";
import { idle } from "./idle.ts";
import { manyAtOnce, someMute } from "./many-at-once.ts";
import { openProduct } from "./product.ts";
import { openPrototype } from "./prototype.ts";
import {
  blockReport,
  machine,
  reportText,
  type BlockReport,
  type Findings,
  type Report,
} from "./report.ts";
import { sweep } from "./sweep.ts";
import { distantDispatch, warmDispatch } from "./warm-dispatch.ts";

/*
 * node test/bench/bench.ts [--only P1,P3,P4,P9,P10,P12,P13] [--rounds N] [--at-once 1,10,50] [--sweep 10,100] [--json FILE] [--once]
 *
 * Measures the built product against floors and peers in the same run, in turn, and prints ratios. Exit code 1 when a goal is missed; a
 * goal on a machine that was too noisy, or of fewer than five rounds, is neither met nor missed.
 */

const USAGE =
  "usage: node test/bench/bench.ts [--only P1,P3,P4,P9,P10,P12,P13] [--rounds N] [--at-once 1,10,50] [--sweep 10,100] [--json FILE] [--once]";

const GOALS = ["P1", "P3", "P4", "P9", "P10", "P12", "P13"];

const { values } = parseArgs({
  options: {
    only: { type: "string", default: GOALS.join(",") },
    rounds: { type: "string" },
    "at-once": { type: "string", default: "1,10,50" },
    sweep: { type: "string", default: "10,100" },
    json: { type: "string" },
    // Each block is measured once, however noisy the machine.
    once: { type: "boolean", default: false },
  },
});
const only = new Set(values.only.split(","));
const sizes = values["at-once"].split(",").map(Number);
const sweepSizes = values.sweep.split(",").map(Number);
const wanted = values.rounds === undefined ? undefined : Number(values.rounds);
if (
  [...only].some((id) => !GOALS.includes(id)) ||
  ![...sizes, ...sweepSizes, wanted ?? 1].every(isCount)
) {
  console.error(USAGE);
  process.exit(2);
}

const blocks: BlockReport[] = [];
const block = async (name: string, measure: () => Promise<Findings>) => {
  console.error(`measuring: ${name}`);
  blocks.push(blockReport(name, await whileSteady(measure, { once: values.once })));
};

if (only.has("P1") || only.has("P9")) {
  await using product = await openProduct({ workers: 1 });
  if (only.has("P9")) {
    await block("P9 command line", () => cliStart(product, wanted ?? 30));
  }
  if (only.has("P1")) {
    await using floor = await openPrototype(1);
    await block("P1 warm dispatch", () => warmDispatch(product, floor, wanted ?? 30));
  }
}
if (only.has("P1")) {
  await using product = await openProduct({ workers: 1, proxied: true });
  await block("P1 at a distance", () => distantDispatch(product, wanted ?? 10));
}
if (only.has("P3")) {
  for (const size of sweepSizes) {
    await block(`P3 sweep of ${size} workers`, () => sweep(size, wanted ?? 5));
  }
}
if (only.has("P12")) {
  for (const size of sizes) {
    await using product = await openProduct({ workers: size });
    await using floor = await openPrototype(size);
    await block(`P12 ${size} at once`, () => manyAtOnce(product, floor, wanted ?? 5));
  }
  await using product = await openProduct({
    workers: Math.max(2, ...sizes.filter((size) => size <= 20)),
    proxied: true,
  });
  await block("P12 beside mute workers", () => someMute(product, wanted ?? 5));
}

if (only.has("P4")) {
  await using product = await openProduct({ workers: 1 });
  await block("P4 detection", () => detection(product, wanted ?? 10));
}
if (only.has("P10")) {
  await using product = await openProduct({ workers: 5 });
  await block("P10 idle", () => idle(product, wanted ?? 5));
}
if (only.has("P13")) await block("P13 dead link", () => deadLink(wanted ?? 5));

const report: Report = { machine: machine(), blocks };
process.stdout.write(reportText(report));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
process.exitCode = blocks.some(({ goals }) => goals.some(({ verdict }) => verdict === "missed"))
  ? 1
  : 0;

function isCount(value: number): boolean {
  return Number.isInteger(value) && value > 0;
}
