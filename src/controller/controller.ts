import { readFile } from "node:fs/promises";
import { randomIds, type Ids } from "../platform/ids.ts";
import PQueue from "p-queue";
import type { Env } from "../config/env.ts";
import { ensureKeys } from "../config/keys.ts";
import { ensureHome, homePaths, type HomePaths } from "../config/paths.ts";
import { ClockWatch } from "../dispatch/clock-step.ts";
import type { DispatchContext } from "../dispatch/context.ts";
import { SilentCheck } from "../dispatch/check/check.ts";
import { LimitKeeper } from "../dispatch/limit-keeper.ts";
import { Dispatcher } from "../dispatch/dispatcher.ts";
import { OrchestratorError } from "../domain/errors.ts";
import { secretDigester } from "../fleet/account.ts";
import { inspectCredential, resolveAuth } from "../fleet/auth.ts";
import { CredentialCheck } from "../fleet/check-credential.ts";
import { Connections } from "../fleet/connections.ts";
import type { FleetContext } from "../fleet/context.ts";
import { MinIdle } from "../fleet/min-idle.ts";
import { PoolKeeper } from "../fleet/pool-keeper.ts";
import { Seeds } from "../fleet/prepare.ts";
import { Retention } from "../fleet/retention.ts";
import { Upkeep } from "../fleet/upkeep.ts";
import { OPERATIONS } from "../operations/registry.ts";
import type { Services } from "../operations/services.ts";
import { systemClock, type Clock } from "../platform/clock.ts";
import { killingFailpoint, noFailpoint } from "../platform/failpoint.ts";
import { fileLogger, type Logger } from "../platform/logger.ts";
import { startAll, type Service } from "../platform/start-stop.ts";
import { localProvider } from "../providers/local/local.ts";
import { Book } from "../providers/ssh/book.ts";
import { sshProvider } from "../providers/ssh/ssh.ts";
import type { Provider } from "../providers/provider.ts";
import { createProvisioner } from "../provisioner/create.ts";
import { createClaudeRuntime } from "../runtimes/claude/runtime.ts";
import type { Runtime } from "../runtimes/runtime.ts";
import { createShellRuntime } from "../runtimes/shell/runtime.ts";
import { holdExclusive } from "../store/lock.ts";
import { openStore } from "../store/open.ts";
import { openSshTransport } from "../transport/ssh.ts";
import type { OpenTransport } from "../transport/transport.ts";
import { Alerts } from "./alerts/alerts.ts";
import { ConfigSource } from "./config-source.ts";
import { IdleExit } from "./idle-exit.ts";
import { orchestration } from "./orchestration.ts";
import { socketServer } from "./socket-server.ts";
import { SshLinks } from "./ssh-links.ts";

/** Snapshots that come into the mirrors at the same time: each is a git process that reads and writes packs. */
const FETCHING_AT_ONCE = 4;

export interface ControllerOptions {
  readonly env: Env;
  readonly version: string;
  /** `serve`: until told to stop; `on-demand`: ends after idle minutes without a live run. */
  readonly lifetime: "serve" | "on-demand";
  /** Replaced by tests. */
  readonly overrides?: {
    readonly clock?: Clock;
    readonly ids?: Ids;
    readonly providers?: ReadonlyMap<string, Provider>;
    readonly runtimes?: ReadonlyMap<string, Runtime>;
    readonly openTransport?: OpenTransport;
  };
}

export interface Controller {
  readonly services: Services;
  readonly paths: HomePaths;
  /** Settles once the controller was asked to stop (by the operation, or by idleness); the caller then calls `stop`. */
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

/**
 * Builds the controller of one home and starts it: lock, store, rooms, doors, loops, in that order. Rejects with `lease_held` when another
 * controller holds the home's lock. Runs that a former controller left are taken up before the door opens.
 */
export async function startController(options: ControllerOptions): Promise<Controller> {
  const { env, overrides = {} } = options;
  const clock = overrides.clock ?? systemClock();
  const ids = overrides.ids ?? randomIds();
  const paths = homePaths(env.home);
  await ensureHome(paths);
  const lock = holdExclusive(paths.controllerLock);
  if (lock === null) {
    throw new OrchestratorError("lease_held", `another controller runs for ${paths.home}`, {
      hint: "'orchestrator ping' says which",
    });
  }
  const logger = fileLogger(paths.controllerLog, () => clock.now());
  try {
    const running = await wire(options, { clock, ids, paths, logger });
    return {
      ...running,
      stop: async () => {
        await running.stop();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

interface Ground {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly paths: HomePaths;
  readonly logger: Logger;
}

async function wire(options: ControllerOptions, ground: Ground): Promise<Controller> {
  const { clock, ids, paths, logger } = ground;
  const configSource = await ConfigSource.open(paths.config, options.env);
  const store = await openStore({ path: paths.database, clock, ids, logger });
  const { fleet, links } = await wireFleet(options, ground, configSource, store);
  const connections = new Connections(fleet);
  const preparing = new PQueue({ concurrency: configSource.current.controller.parallel });
  const fetching = new PQueue({ concurrency: FETCHING_AT_ONCE });
  const dispatch: DispatchContext = {
    fleet,
    connections,
    seeds: new Seeds(),
    limitPreparing: (action) => preparing.add(action),
    limitFetching: (action) => fetching.add(action),
  };
  const dispatcher = new Dispatcher(dispatch);
  const silentCheck = new SilentCheck(dispatch, {
    fallback: paths.statusLog,
    seen: paths.statusSeen,
    userHome: options.env.userHome,
  });
  const ending = new AbortController();
  const finished = new Promise<void>((resolve) => {
    ending.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  const services: Services = {
    store,
    clock,
    get config() {
      return configSource.current;
    },
    orchestration: orchestration({
      dispatch,
      dispatcher,
      configSource,
      silentCheck,
      signal: ending.signal,
      stop: () => ending.abort(new Error("asked to stop")),
    }),
    pid: process.pid,
    version: options.version,
    startedAt: clock.now(),
  };
  const resources: Service = {
    start: async () => {},
    stop: async () => {
      await connections[Symbol.asyncDispose]();
      await links[Symbol.asyncDispose]();
      await store.close();
    },
  };
  const door = socketServer({ path: paths.socket, services, operations: OPERATIONS, logger });
  const idle = new IdleExit({
    clock,
    minutes: () =>
      options.lifetime === "serve" ? null : configSource.current.controller.idleExitMinutes,
    isBusy: async () =>
      dispatcher.liveCount > 0 ||
      fleet.making.size > 0 ||
      door.working > 0 ||
      (await hasLiveRun(services)),
    finish: () => ending.abort(new Error("idle")),
  });
  const minIdle = new MinIdle({
    fleet,
    connections,
    seeds: dispatch.seeds,
    poolFacts: (repo) => dispatcher.poolFacts(repo),
  });
  const clockWatch = new ClockWatch(fleet);
  const upkeep = new Upkeep({ fleet, connections, seeds: dispatch.seeds });
  const alerts = new Alerts({
    store,
    clock,
    ids,
    logger,
    config: () => configSource.current,
    senders: { env: options.env, logger },
  });
  const retention = new Retention(fleet);
  const limits = new LimitKeeper(fleet);
  const pools = new PoolKeeper({ fleet, connections, seeds: dispatch.seeds });
  const loops = [
    resources,
    alerts,
    clockWatch,
    dispatcher,
    limits,
    upkeep,
    minIdle,
    pools,
    retention,
    door,
    idle,
  ];
  const stop = await startAll(loops).catch(async (error: unknown) => {
    await store.close();
    throw error;
  });
  logger.info("controller.started", { pid: process.pid, version: options.version });
  return {
    services,
    paths,
    finished,
    stop: async () => {
      ending.abort(new Error("stopping"));
      await stop();
      logger.info("controller.stopped", { pid: process.pid });
    },
  };
}

async function wireFleet(
  options: ControllerOptions,
  { clock, ids, paths, logger }: Ground,
  configSource: ConfigSource,
  store: FleetContext["store"],
): Promise<{ fleet: FleetContext; links: SshLinks }> {
  const { env, overrides = {} } = options;
  const keyFiles = await ensureKeys(paths, ids);
  const keys = {
    privateKey: await readFile(keyFiles.privateKey, "utf8"),
    publicKey: keyFiles.publicLine,
  };
  const sshConfig = () => configSource.current.providers.ssh;
  const book = new Book(paths.ssh, { clock, ids });
  const links = new SshLinks({
    config: sshConfig,
    userHome: env.userHome,
    folder: paths.ssh,
    keys: { ...keys, path: keyFiles.privateKey },
    openTransport: (settings) => openSshTransport(settings),
    workerOf: async (host) => (await book.read()).find((entry) => entry.host === host)?.name,
  });
  const auth = {
    env,
    logger,
    credentials: new CredentialCheck({ clock, logger }),
    digest: secretDigester(keys.privateKey),
  };
  const failpoint = env.variable("ORCHESTRATOR_FAILPOINT");
  const fleet: FleetContext = {
    store,
    clock,
    ids,
    logger,
    failpoint: failpoint === undefined ? noFailpoint : killingFailpoint(failpoint),
    config: () => configSource.current,
    providers:
      overrides.providers ??
      // Local workers find the tools that the operator has: toolchains of set-up scripts, and the agent's program.
      new Map([
        ["local", localProvider({ root: paths.local, clock, ids, path: env.path })],
        ["ssh", sshProvider({ config: sshConfig, links, book, clock, ids })],
      ]),
    runtimes:
      overrides.runtimes ??
      new Map<string, Runtime>([
        ["claude", createClaudeRuntime()],
        ["shell", createShellRuntime()],
      ]),
    openTransport:
      overrides.openTransport ?? ((settings) => openSshTransport(links.withRoute(settings))),
    provisioner: createProvisioner(),
    keys,
    making: new Set(),
    destroying: new Map(),
    mirrors: paths.mirrors,
    resolveAuth: (repo, runtime) => resolveAuth(repo, runtime, auth),
    inspectCredential: (repo, runtime, ask) => inspectCredential(repo, runtime, ask, auth),
  };
  return { fleet, links };
}

async function hasLiveRun({ store }: Services): Promise<boolean> {
  const row = await store.db
    .selectFrom("runs")
    .select("run_id")
    .where("state", "not in", ["completed", "failed", "cancelled", "abandoned"])
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}
