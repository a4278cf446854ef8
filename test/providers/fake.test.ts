import assert from "node:assert/strict";
import { test } from "node:test";

import type { CreateRequest } from "../../src/providers/provider.ts";
import { assertRefuses } from "../conformance/provider.ts";
import { fakeCloud } from "../fakes/fake-provider.ts";

const request = (name: string): CreateRequest => ({
  name,
  fleetId: "fleet-a",
  nonce: `nonce-${name}`,
  authorizedKey: "ssh-ed25519 AAAA test",
});

test("a create whose answer was lost is found again by its nonce; one whose request was lost is not", async () => {
  const { provider, script } = fakeCloud();
  script("create", { kind: "answer_lost" }, { kind: "request_lost" });
  const doubt = await assertRefuses(provider.create(request("kite-1")), "unknown_outcome");
  assert.equal(doubt.retryable, false, "never repeated blindly");
  await assertRefuses(provider.create(request("kite-2")), "unknown_outcome");
  assert.deepEqual(
    (await provider.list("kite-")).map(({ nonce }) => nonce),
    ["nonce-kite-1"],
  );
});

test("a service that is busy or broken says whether and when to come again", async () => {
  const { provider, script } = fakeCloud({ maxWorkers: 1 });
  script("create", { kind: "too_many_requests", retryAfterMs: 1_500 }, { kind: "server_error" });
  const busy = await assertRefuses(provider.create(request("kite-1")), "unavailable");
  assert.deepEqual([busy.retryable, busy.retryAfterMs], [true, 1_500]);
  const broken = await assertRefuses(provider.create(request("kite-1")), "unavailable");
  assert.deepEqual([broken.retryable, broken.retryAfterMs], [true, undefined]);
  await provider.create(request("kite-1"));
  await assertRefuses(provider.create(request("kite-2")), "no_capacity");
});

test("a list may be stale, a call may be slow, a worker may vanish", async () => {
  const { provider, script, setState, calls } = fakeCloud();
  const worker = await provider.create(request("kite-1"));
  const before = await provider.list("kite-");
  setState(worker.id, "gone");
  script("list", { kind: "stale" });
  assert.deepEqual(await provider.list("kite-"), before);
  assert.deepEqual(await provider.list("kite-"), []);
  assert.equal(await provider.get(worker.id), null);

  const { promise, resolve } = Promise.withResolvers<void>();
  script("create", { kind: "slow", until: promise });
  const slow = provider.create(request("kite-2"));
  assert.deepEqual(await provider.list("kite-"), []);
  resolve();
  await slow;
  assert.equal(calls.at(-1), "list kite-");
});

test("a name that a foreign fleet holds is taken, and an unreachable worker is not gone", async () => {
  const { provider, addForeign, setState } = fakeCloud();
  const foreign = addForeign("kite-1", "fleet-b");
  await assertRefuses(provider.create(request("kite-1")), "name_taken");
  setState(foreign.id, "unreachable");
  assert.equal((await provider.get(foreign.id))?.state, "unreachable");
  await assertRefuses(provider.dial(foreign.id), "unavailable");
});
