import { readEnv } from "../../src/config/env.ts";
import { homePaths } from "../../src/config/paths.ts";
import { startController } from "../../src/controller/controller.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { startTcpProxy, type TcpProxy } from "../fakes/tcp-proxy.ts";
import { VERSION, type LinkSetting } from "./product.ts";

/*
 * A controller that reaches its local workers through proxies. Each message is a `LinkSetting`, answered when it is in force.
 */

const env = readEnv();
const proxies = new Map<string, TcpProxy>();
let current: LinkSetting = {};

function apply(name: string, proxy: TcpProxy): void {
  proxy.delayMs = current.delayMs ?? 0;
  const swallow = current.mute?.includes(name) === true ? "both" : "none";
  if (proxy.swallow === swallow) return;
  proxy.swallow = swallow;
  proxy.reset();
}

/** The local provider, but for the port that is dialled. */
function behindProxies(provider: Provider): Provider {
  return {
    ...provider,
    async dial(id) {
      const dial = await provider.dial(id);
      const name = (await provider.get(id))?.name ?? id;
      const proxy = proxies.get(name) ?? (await startTcpProxy(dial.address.port));
      proxies.set(name, proxy);
      apply(name, proxy);
      return { ...dial, address: { ...dial.address, port: proxy.port } };
    },
  };
}

const clock = systemClock();
const ids = randomIds();
const root = homePaths(env.home).local;
const local = localProvider({ root, clock, ids, path: env.path });
const controller = await startController({
  env,
  version: VERSION,
  lifetime: "serve",
  overrides: { providers: new Map([["local", behindProxies(local)]]) },
});
process.on("message", (setting: LinkSetting) => {
  current = setting;
  for (const [name, proxy] of proxies) apply(name, proxy);
  process.send?.("done");
});
process.once("SIGTERM", () => {
  void controller
    .stop()
    .then(() => Promise.all([...proxies.values()].map((proxy) => proxy.close())))
    .then(() => process.exit(0));
});
