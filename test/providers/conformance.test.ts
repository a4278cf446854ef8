import { randomIds } from "../../src/platform/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import { exerciseProvider } from "../conformance/provider.ts";
import { fakeCloud } from "../fakes/fake-provider.ts";
import { localWorkers } from "../support/local-workers.ts";

exerciseProvider("local", async () => {
  const maxWorkers = 40;
  const workers = await localWorkers({ maxWorkers });
  const effects = { clock: systemClock(), ids: randomIds() };
  return {
    provider: workers.provider,
    rival: localProvider({ root: workers.root, maxWorkers, ...effects }),
    authorizedKey: workers.keys.publicKey,
    [Symbol.asyncDispose]: () => workers[Symbol.asyncDispose](),
  };
});

exerciseProvider("the fake", async () => {
  const cloud = fakeCloud();
  return {
    provider: cloud.provider,
    rival: cloud.rival(),
    authorizedKey: "ssh-ed25519 AAAA test",
    [Symbol.asyncDispose]: async () => {},
  };
});
