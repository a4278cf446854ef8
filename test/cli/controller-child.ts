import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { runCli } from "../../src/cli/cli.ts";
import type { Context } from "../../src/cli/context.ts";
import { processIo } from "../../src/cli/process-io.ts";
import { readEnv } from "../../src/config/env.ts";
import { ensureHome, homePaths } from "../../src/config/paths.ts";
import { OrchestratorError } from "../../src/domain/errors.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";

/*
 * The CLI as a program, with a small controller behind `serve`: real lock, real socket, no fleet. `FAKE_SERVE` tells it
 * to misbehave. Each start of a controller is a line in `starts`.
 */

const env = readEnv();
const paths = homePaths(env.home);
const clock = systemClock();
const asked = new AbortController();
process.on("SIGTERM", () => asked.abort());
const io = processIo(env, () => process.exit(141));

const context: Context = {
  env,
  paths,
  version: "0.1.0",
  io,
  clock: () => clock,
  ids: randomIds,
  program: [process.execPath, process.argv[1] ?? ""],
  openInProcess: () => Promise.reject(new Error("no store in this test")),
  async hostController() {
    const behaviour = process.env["FAKE_SERVE"] ?? "";
    await ensureHome(paths);
    appendFileSync(join(paths.home, "starts"), `${process.pid}\n`);
    if (behaviour === "refuse") {
      throw new OrchestratorError("invalid_config", "repos.kite.url must be a Git URL", {
        hint: "edit it",
      });
    }
    if (behaviour === "crash") process.kill(process.pid, "SIGKILL");
    if (behaviour === "mute") await new Promise(() => setInterval(() => {}, 1_000));
    // As a real one does: it takes its time, while others want it too.
    if (behaviour === "slow") await clock.sleep(2_000);
    const { holdExclusive } = await import("../../src/store/lock.ts");
    const { fakeController } = await import("../support/fake-services.ts");
    const lock = holdExclusive(paths.controllerLock);
    if (lock === null) throw new OrchestratorError("lease_held", "another controller runs");
    let finish = () => {};
    const ended = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const controller = await fakeController(paths.socket, {
      "controller.ping": () => ({
        pid: process.pid,
        version: "0.1.0",
        fleet_id: "f",
        started_at: 0,
        live_runs: 0,
      }),
      "controller.stop": () => {
        finish();
        return { stopping: true, live_runs: 2 };
      },
      "worker.busy": () => ({
        busy: true,
        reason: `controller ${process.pid} in ${process.cwd()}, ${process.env["KEPT"]}`,
      }),
    });
    return {
      ended,
      stop: async () => {
        await controller.stop();
        lock.release();
      },
    };
  },
  startMs: Number(process.env["START_MS"] ?? 60_000),
  trials: () => Promise.reject(new Error("no trials here")),
  interruption: () => asked.signal,
};

process.exitCode = await runCli(context, process.argv.slice(2));
await io.flush();
