import { readFileSync } from "node:fs";
import { z } from "zod";
import { readEnv } from "../../src/config/env.ts";
import { ensureHome, homePaths } from "../../src/config/paths.ts";
import { startController } from "../../src/controller/controller.ts";
import { asWorkerId } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { openStore } from "../../src/store/open.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import { fakeCloud } from "../fakes/fake-provider.ts";
import { workerRow } from "../store/rows.ts";
import { VERSION } from "./product.ts";

/*
 * A controller whose idle workers are those of a tmux farm, and as many more that sleep. Each message is answered by what it has used since
 * its start.
 */

const settings = z
  .object({
    hostKey: z.string(),
    workers: z.array(z.object({ host: z.string(), port: z.number(), user: z.string() })),
    asleep: z.number(),
  })
  .parse(JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")));

export interface SweepStats {
  readonly cpuMs: number;
  readonly connections: number;
  readonly woken: number;
}

const clock = systemClock();
const ids = randomIds();
const env = readEnv();
const paths = homePaths(env.home);
const addresses = new Map(settings.workers.map((worker, index) => [`kite-${index + 1}`, worker]));
const steady = fakeCloud({
  capabilities: { sleeps: false },
  dial: ({ name }) => {
    const { host = "", port = 0, user = "" } = addresses.get(name) ?? {};
    return { address: { kind: "tcp", host, port, user }, hostKey: settings.hostKey };
  },
});
const sleepy = fakeCloud({ capabilities: { sleeps: true } });

await ensureHome(paths);
const store = await openStore({ path: paths.database, clock, ids });
for (let number = 1; number <= settings.workers.length + settings.asleep; number += 1) {
  const isAwake = number <= settings.workers.length;
  const [cloud, provider] = isAwake ? [steady, "steady"] : [sleepy, "sleepy"];
  const nonce = `nonce-${number}`;
  const request = { name: `kite-${number}`, fleetId: store.fleetId, nonce, authorizedKey: "" };
  const { id } = await cloud.provider.create(request);
  cloud.setState(id, isAwake ? "running" : "cold");
  const row = workerRow(number, {
    worker_id: asWorkerId(`w-${number}`),
    provider,
    provider_id: id,
    nonce,
    host_key: isAwake ? settings.hostKey : null,
  });
  await store.mutate((tx) => tx.db.insertInto("workers").values(row).execute(), { quiet: true });
}
await store.close();

let connections = 0;
const controller = await startController({
  env,
  version: VERSION,
  lifetime: "serve",
  overrides: {
    providers: new Map([
      ["steady", steady.provider],
      ["sleepy", sleepy.provider],
    ]),
    openTransport: (connect) => {
      connections += 1;
      return openSshTransport(connect);
    },
  },
});
process.on("message", () => {
  const { user, system } = process.cpuUsage();
  const woken = sleepy.calls.filter((call) => call.startsWith("dial ")).length;
  const stats: SweepStats = { cpuMs: (user + system) / 1_000, connections, woken };
  process.send?.(stats);
});
const end = () => void controller.stop().then(() => process.exit(0));
process.once("SIGTERM", end);
// Whoever measures has gone.
process.once("disconnect", end);
