import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { fork, spawn, type ChildProcess } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { connectController, type Client } from "../../src/operations/client.ts";
import { eventView, runDetailView, runView, workerView } from "../../src/operations/views.ts";
import { installation } from "../support/installation.ts";
import { until } from "../support/wait.ts";
import { timed, wallMs } from "./measure.ts";
import { BOOT_S } from "./prompt.ts";
import { REPOSITORY } from "./repository.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const PATIENCE_MS = 120_000;

/** Programs of different versions do not talk to each other. */
export const { version: VERSION } = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")));

/** One dispatch, seen from outside. */
export interface Dispatched {
  readonly runId: string;
  /** Until the agent held the whole prompt, ms. */
  readonly heldMs: number;
  /** Until the caller was told that the agent is shown to have it, ms. */
  readonly wallMs: number;
  /** SHA-256 of what the agent held. */
  readonly hash: string;
}

/** The built product with a pool of warm local workers, whose agent program is fake-claude.sh. */
export interface Product extends AsyncDisposable {
  readonly env: NodeJS.ProcessEnv;
  /** The built program's argv. */
  readonly program: readonly string[];
  readonly workers: readonly string[];
  /** With the command line, from the start of its process to its exit. */
  dispatchByCli(text: string): Promise<Dispatched>;
  /** Over the socket, so that many at once do not measure the start of many processes. */
  dispatch(text: string, worker: string): Promise<Dispatched>;
  /** Accepts a task without waiting for more. */
  begin(text: string, worker: string): Promise<string>;
  /** Ends the turns of these runs and waits until their workers are idle again. */
  settle(runIds: readonly string[]): Promise<void>;
  cancel(runId: string): Promise<void>;
  readonly controllerPid: number;
  homeOf(worker: string): string;
  run(runId: string): Promise<z.infer<typeof runDetailView>>;
  /** Events of a run from now on, as they come. */
  events(runId: string, signal: AbortSignal): AsyncIterable<z.infer<typeof eventView>>;
  /** Only with `proxied`. */
  link(setting: LinkSetting): Promise<void>;
}

export interface LinkSetting {
  /** Held back in each direction, ms. */
  readonly delayMs?: number;
  /** These workers' connections are reset; new ones are accepted, and nothing is ever said on them. */
  readonly mute?: readonly string[];
}

export interface ProductOptions {
  readonly workers: number;
  /** Reach the workers through proxies that can delay and fall silent; the controller then runs from source. */
  readonly proxied?: boolean;
}

export async function openProduct({ workers, proxied = false }: ProductOptions): Promise<Product> {
  if (!existsSync(join(ROOT, "dist", "orchestrator.cjs"))) {
    throw new Error("the product is not built: run 'npm run build' first");
  }
  const place = mkdtempSync(join(tmpdir(), "bench-"));
  const acks = join(place, "acks");
  for (const folder of ["bin", "acks"]) mkdirSync(join(place, folder));
  // A copy, so that a build meanwhile changes nothing.
  for (const folder of ["dist", "provision"]) {
    cpSync(join(ROOT, folder), join(place, "package", folder), { recursive: true });
  }
  symlinkSync(join(import.meta.dirname, "fake-claude.sh"), join(place, "bin", "claude"));
  writeFileSync(join(acks, "boot-s"), `${BOOT_S}\n`);
  const installed = installation({
    files: REPOSITORY,
    env: { PATH: `${join(place, "bin")}:${process.env["PATH"]}` },
  });
  installed.configure(
    { runtime: "claude", maxWorkers: workers, env: { BENCH_FOLDER: acks } },
    { delivery: { confirmSeconds: 120 } },
  );
  const program = [process.execPath, join(place, "package", "dist", "orchestrator.cjs")];
  const controller = proxied
    ? fork(join(import.meta.dirname, "controller-child.ts"), {
        env: installed.env,
        stdio: ["ignore", "ignore", "inherit", "ipc"],
      })
    : spawn(program[0] ?? "", [...program.slice(1), "serve"], {
        env: installed.env,
        stdio: ["ignore", "ignore", "inherit"],
      });
  const dispose = async (client: Client | undefined) => {
    await client?.close();
    await ended(controller);
    await installed[Symbol.asyncDispose]();
    rmSync(place, { recursive: true, force: true });
  };
  let client: Client | undefined;
  try {
    const opened = await until(
      () => connectController({ path: installed.paths.socket, version: VERSION }),
      { what: "the controller's socket", timeoutMs: PATIENCE_MS },
    );
    client = opened;
    const product = productOver({ opened, installed, acks, program, controller, workers });
    await product.warmUp();
    return { ...product, [Symbol.asyncDispose]: () => dispose(opened) };
  } catch (error) {
    await dispose(client);
    throw error;
  }
}

interface Parts {
  readonly opened: Client;
  readonly installed: ReturnType<typeof installation>;
  readonly acks: string;
  readonly program: readonly string[];
  readonly controller: ChildProcess;
  readonly workers: number;
}

function productOver(
  parts: Parts,
): Omit<Product, typeof Symbol.asyncDispose> & { warmUp(): Promise<void> } {
  const { opened, installed, acks, program, controller } = parts;
  const { env } = installed;
  const workers = Array.from({ length: parts.workers }, (_, index) => `kite-${index + 1}`);

  const held = (runId: string) => {
    const [ns = "", hash = ""] = readFileSync(join(acks, `${runId}.held`), "utf8").split(" ");
    return { at: Number(ns) / 1e6, hash };
  };
  const begin = async (text: string, worker?: string) => {
    const answer = await opened.call("dispatch", {
      repo: "kite",
      text,
      ...(worker === undefined ? {} : { worker }),
    });
    return z.object({ run: runView }).parse(answer).run.run_id;
  };
  const delivered = async (runId: string) => {
    const input = { run_id: runId, until: "delivered", timeout_ms: PATIENCE_MS };
    const run = runDetailView.parse(await opened.call("run.wait", input));
    if (run.receipt !== "accepted")
      throw new Error(`${runId} is ${run.state}: ${run.state_reason}`);
  };
  const settle = async (runIds: readonly string[]) => {
    await Promise.all(
      runIds.map(async (runId) => {
        await writeFile(join(acks, `${runId}.release`), "\n");
        await opened.call("run.wait", { run_id: runId, until: "ended", timeout_ms: PATIENCE_MS });
      }),
    );
  };

  return {
    env,
    program,
    workers,
    begin,
    settle,
    async dispatchByCli(text) {
      const words = ["--repo", "kite", "--command", text, "--json"];
      const { startedAt, wallMs: took, stdout } = await timed([...program, ...words], { env });
      const last = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as { run_id: string };
      const { at, hash } = held(last.run_id);
      return { runId: last.run_id, heldMs: at - startedAt, wallMs: took, hash };
    },
    async dispatch(text, worker) {
      const startedAt = wallMs();
      const runId = await begin(text, worker);
      await delivered(runId);
      const took = wallMs() - startedAt;
      const { at, hash } = held(runId);
      return { runId, heldMs: at - startedAt, wallMs: took, hash };
    },
    controllerPid: controller.pid ?? 0,
    homeOf: installed.homeOf,
    run: async (runId) => runDetailView.parse(await opened.call("run.show", { run_id: runId })),
    async *events(runId, signal) {
      const items = opened.stream("events.follow", { run_id: runId }, signal);
      for await (const item of items) yield eventView.parse(item);
    },
    async cancel(runId) {
      await opened.call("run.cancel", { run_id: runId });
      await opened.call("run.wait", { run_id: runId, until: "ended", timeout_ms: PATIENCE_MS });
    },
    async link(setting) {
      const done = new Promise<void>((resolve) => controller.once("message", () => resolve()));
      controller.send(setting);
      await done;
    },
    async warmUp() {
      // One creates the first worker and its mirror; the rest, at once, all others.
      const first = await begin("warm up");
      await delivered(first);
      const others = await Promise.all(workers.slice(1).map(() => begin("warm up")));
      await Promise.all(others.map(delivered));
      await settle([first, ...others]);
      const list = z.array(workerView).parse(await opened.call("worker.list", {}));
      if (list.length !== workers.length) throw new Error(`there are ${list.length} workers`);
    },
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await over;
}
