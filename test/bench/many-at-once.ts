import { interleave, series } from "./measure.ts";
import type { Dispatched, Product } from "./product.ts";
import { makePrompt } from "./prompt.ts";
import type { Prototype } from "./prototype.ts";
import { ratio, type Findings } from "./report.ts";
import { checked } from "./warm-dispatch.ts";

interface Dispatcher {
  readonly workers: readonly string[];
  dispatch(text: string, worker: string): Promise<Dispatched>;
}

/** P12: that many dispatches at once, each to a worker of its own, until the last caller was told. */
export async function manyAtOnce(
  product: Product,
  floor: Prototype,
  rounds: number,
): Promise<Findings> {
  const count = product.workers.length;
  const own = series(`product, ${count} at once`);
  const floors = series(`prototype, ${count} at once`);
  await interleave(rounds, [
    async () => {
      const { wallMs, runIds } = await allAtOnce(product, product.workers);
      own.samples.push(wallMs);
      await product.settle(runIds);
    },
    async () => {
      floors.samples.push((await allAtOnce(floor, floor.workers)).wallMs);
    },
  ]);
  return {
    series: [own, floors],
    goals: [
      {
        id: "P12",
        what: `${count} at once, product / prototype`,
        value: ratio(own, floors),
        limit: 1.3,
        better: "at most",
        unit: "x",
      },
    ],
  };
}

/** P12 with trouble: one worker of ten accepts connections and stays mute; the others must not notice. */
export async function someMute(product: Product, rounds: number): Promise<Findings> {
  const count = Math.max(1, Math.round(product.workers.length / 10));
  const mute = product.workers.slice(-count);
  const others = product.workers.slice(0, -count);
  const alone = series(`${others.length} at once, alone`);
  const beside = series(`${others.length} at once, beside ${mute.length} mute`);
  await interleave(rounds, [
    async () => {
      const { wallMs, runIds } = await allAtOnce(product, others);
      alone.samples.push(wallMs);
      await product.settle(runIds);
    },
    async (round) => {
      await product.link({ mute });
      const stuck = await Promise.all(
        mute.map((worker) => product.begin(makePrompt(`mute ${round}`).text, worker)),
      );
      const { wallMs, runIds } = await allAtOnce(product, others);
      beside.samples.push(wallMs);
      await product.link({});
      await Promise.all([product.settle(runIds), ...stuck.map((runId) => product.cancel(runId))]);
    },
  ]);
  return {
    series: [alone, beside],
    goals: [
      {
        id: "P12",
        what: "beside mute workers / alone",
        value: ratio(beside, alone),
        limit: 1.1,
        better: "at most",
        unit: "x",
      },
    ],
  };
}

async function allAtOnce(
  dispatcher: Dispatcher,
  workers: readonly string[],
): Promise<{ wallMs: number; runIds: string[] }> {
  const began = performance.now();
  const done = await Promise.all(
    workers.map(async (worker) => {
      const prompt = makePrompt(worker);
      return checked(await dispatcher.dispatch(prompt.text, worker), prompt.hash);
    }),
  );
  return { wallMs: performance.now() - began, runIds: done.map(({ runId }) => runId) };
}
