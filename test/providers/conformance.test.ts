import { randomIds } from "../../src/platform/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { localProvider } from "../../src/providers/local/local.ts";
import { exerciseProvider } from "../conformance/provider.ts";
import { fakeCloud } from "../fakes/fake-provider.ts";
import { generateClientKeys } from "../support/client-keys.ts";
import { localWorkers } from "../support/local-workers.ts";
import { hostInput, lan } from "../support/ssh-fleet.ts";

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

exerciseProvider("ssh", async () => {
  const keys = generateClientKeys("ours");
  const machines = lan([keys.publicKey]);
  const hosts = await Promise.all(
    Array.from({ length: 16 }, (_, index) => machines.machine(`host-${index + 1}`)),
  );
  const first = machines.operator("person", keys);
  const second = machines.operator("person", keys);
  for (const one of [first, second]) one.list(...hosts.map((host) => hostInput(host)));
  return {
    provider: first.provider,
    rival: second.provider,
    authorizedKey: keys.publicKey,
    [Symbol.asyncDispose]: () => machines[Symbol.asyncDispose](),
  };
});
