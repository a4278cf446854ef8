import { interleave, series, median } from "./measure.ts";
import type { Product, Dispatched } from "./product.ts";
import { BOOT_S, makePrompt } from "./prompt.ts";
import type { Prototype, SshStyle } from "./prototype.ts";
import { ratio, type Findings } from "./report.ts";

/** P1: from the start of the command line to the agent that holds the prompt, on a warm worker. */
export async function warmDispatch(
  product: Product,
  floor: Prototype,
  rounds: number,
): Promise<Findings> {
  const held = series("product: agent holds the prompt");
  const told = series("product: command line has said so");
  const floorHeld = series("prototype: agent holds the prompt");
  const floorTold = series("prototype: command line has said so");
  const scripts = {
    defaults: series("six OpenSSH calls, defaults"),
    curve25519: series("six OpenSSH calls, curve25519"),
    master: series("six OpenSSH calls, ControlMaster"),
  };
  const byScript = (style: SshStyle) => async (round: number) => {
    const prompt = makePrompt(`${style} ${round}`);
    const done = await floor.dispatchByScript(prompt.text, style);
    scripts[style].samples.push(checked(done, prompt.hash).heldMs);
  };
  // Their first one raises the master and warms the file caches.
  await byScript("master")(-1);
  scripts.master.samples.length = 0;

  await interleave(rounds, [
    async (round) => {
      const prompt = makePrompt(`product ${round}`);
      const done = checked(await product.dispatchByCli(prompt.text), prompt.hash);
      held.samples.push(done.heldMs);
      told.samples.push(done.wallMs);
      await product.settle([done.runId]);
    },
    async (round) => {
      const prompt = makePrompt(`prototype ${round}`);
      const done = checked(await floor.dispatchByCli(prompt.text), prompt.hash);
      floorHeld.samples.push(done.heldMs);
      floorTold.samples.push(done.wallMs);
    },
    byScript("defaults"),
    byScript("curve25519"),
    byScript("master"),
  ]);
  const goal = (what: string, value: number, better: "at most" | "at least", limit: number) =>
    ({ id: "P1", what, value, better, limit, unit: "x" }) as const;
  return {
    series: [held, told, floorHeld, floorTold, ...Object.values(scripts)],
    goals: [
      goal("held, product / prototype", ratio(held, floorHeld), "at most", 1.5),
      goal("held, script / product", ratio(scripts.defaults, held), "at least", 10),
      goal("held, script with ControlMaster / product", ratio(scripts.master, held), "at least", 3),
    ],
    notes: [
      `every agent takes ${BOOT_S * 1_000} ms to boot, contained in all figures`,
      `told, product / prototype: ${ratio(told, floorTold).toFixed(2)} x (the product waits for the agent's own hook)`,
    ],
  };
}

/** Added round trips, ms: one is what the goal names; the other, far above the noise, counts them. */
const NEAR_MS = 50;
const FAR_MS = 200;
const MOST_TRIPS = 5;

/** P1 at a distance: the same over slow links, and how many round trips that makes. */
export async function distantDispatch(product: Product, rounds: number): Promise<Findings> {
  const through = (roundTripMs: number) => ({
    roundTripMs,
    series: series(`round trip ${roundTripMs} ms: command line has said so`),
  });
  const [here, near, far] = [through(0), through(NEAR_MS), through(FAR_MS)];
  const once =
    ({ roundTripMs, series: { samples } }: typeof here) =>
    async (round: number) => {
      await product.link({ delayMs: roundTripMs / 2 });
      const prompt = makePrompt(`${roundTripMs} ${round}`);
      const done = checked(await product.dispatchByCli(prompt.text), prompt.hash);
      samples.push(done.wallMs);
      await product.link({});
      await product.settle([done.runId]);
    };
  await interleave(rounds, [once(here), once(near), once(far)]);
  const beyond = (slow: typeof here) => median(slow.series.samples) - median(here.series.samples);
  return {
    series: [here.series, near.series, far.series],
    goals: [
      {
        id: "P1",
        what: `what a round trip of ${NEAR_MS} ms adds`,
        value: beyond(near),
        limit: MOST_TRIPS * NEAR_MS,
        better: "at most",
        unit: "ms",
      },
      {
        id: "P1",
        what: `round trips, counted with ${FAR_MS} ms each`,
        value: beyond(far) / FAR_MS,
        limit: MOST_TRIPS,
        better: "at most",
        unit: "round trips",
      },
    ],
  };
}

export function checked(done: Dispatched, hash: string): Dispatched {
  if (done.hash === hash) return done;
  throw new Error(`the agent of ${done.runId} held something else than the prompt`);
}
