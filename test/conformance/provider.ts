import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { OrchestratorError } from "../../src/domain/errors.ts";
import type { CreateRequest, Provider, ProviderWorker } from "../../src/providers/provider.ts";
import { ProviderError, type ProviderFailure } from "../../src/providers/provider-error.ts";

export interface ProviderTarget extends AsyncDisposable {
  readonly provider: Provider;
  /** A second controller on the same workers: nothing is shared in memory that would not be shared in life. */
  readonly rival: Provider;
  readonly authorizedKey: string;
}

/** Rejects with this failure, by which callers decide. */
export async function assertRefuses(
  promise: Promise<unknown>,
  failure: ProviderFailure,
): Promise<ProviderError> {
  const error = await promise.then(
    () => assert.fail(`expected ${failure}, but it succeeded`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof ProviderError, `a ProviderError, not ${String(error)}`);
  assert.equal(error.failure, failure);
  return error;
}

/** The guarantees of provider.ts, each by name. Every case uses names of its own. */
export function exerciseProvider(name: string, setup: () => Promise<ProviderTarget>): void {
  void describe(`${name} keeps the provider's contract`, () => {
    let target: ProviderTarget;

    before(async () => {
      target = await setup();
    });
    after(() => target[Symbol.asyncDispose]());

    const request = (worker: string, overrides: Partial<CreateRequest> = {}): CreateRequest => ({
      name: worker,
      fleetId: "fleet-a",
      nonce: `nonce-${worker}`,
      authorizedKey: target.authorizedKey,
      ...overrides,
    });
    const listed = async (prefix: string) =>
      (await target.provider.list(prefix)).map((worker) => worker.name).sort();
    const check = (guarantee: string, body: (provider: Provider) => Promise<void>): void => {
      void test(guarantee, () => body(target.provider));
    };

    check("a created worker is found by list and by id, with its labels", async (provider) => {
      const before = Date.now();
      const made = await provider.create(request("labels-1"));
      assert.deepEqual(
        [made.name, made.fleetId, made.nonce],
        ["labels-1", "fleet-a", "nonce-labels-1"],
      );
      assert.ok(made.createdAt === null || Math.abs(made.createdAt - before) < 60_000);
      assert.deepEqual(await provider.list("labels-"), [made]);
      assert.deepEqual(await provider.get(made.id), made);
    });

    check("list gives the names with the prefix, and all for none", async (provider) => {
      for (const worker of ["pool-1", "pool-2", "pools-1"]) await provider.create(request(worker));
      assert.deepEqual(await listed("pool-"), ["pool-1", "pool-2"]);
      assert.deepEqual(await listed("no-such-pool-"), []);
      const all = await listed("");
      assert.deepEqual(
        all.filter((worker) => worker.startsWith("pool")),
        ["pool-1", "pool-2", "pools-1"],
      );
    });

    check("a name that exists with another nonce or fleet is taken", async (provider) => {
      const first = await provider.create(request("taken-1"));
      const refused = await assertRefuses(
        provider.create(request("taken-1", { nonce: "other" })),
        "name_taken",
      );
      assert.deepEqual([refused.code, refused.retryable], ["not_claimable", false]);
      await assertRefuses(provider.create(request("taken-1", { fleetId: "other" })), "name_taken");
      assert.deepEqual(await provider.list("taken-"), [first]);
    });

    check("the same request again gives the same worker", async (provider) => {
      const first = await provider.create(request("again-1"));
      assert.equal((await provider.create(request("again-1"))).id, first.id);
      assert.deepEqual(await listed("again-"), ["again-1"]);
    });

    check("of several that race for a name one wins", async (provider) => {
      const attempts = Array.from({ length: 6 }, (_, index) => {
        const racer = index % 2 === 0 ? provider : target.rival;
        return racer.create(request("race-1", { nonce: `racer-${index}` }));
      });
      const settled = await Promise.allSettled(attempts);
      const winners = settled.filter((one) => one.status === "fulfilled");
      assert.equal(winners.length, 1);
      for (const one of settled) {
        if (one.status === "fulfilled") continue;
        assert.ok(one.reason instanceof ProviderError, String(one.reason));
        assert.equal(one.reason.failure, "name_taken");
      }
      const [worker] = await provider.list("race-");
      assert.deepEqual(worker, winners[0]?.value);
    });

    check(
      "destroying removes the worker, and what is gone can be destroyed again",
      async (provider) => {
        const made = await provider.create(request("end-1"));
        await provider.dial(made.id);
        await provider.destroy(made.id);
        assert.equal(await provider.get(made.id), null);
        assert.deepEqual(await listed("end-"), []);
        await provider.destroy(made.id);
        await provider.destroy("never-was");
      },
    );

    check("two that destroy one worker both succeed", async (provider) => {
      const made = await provider.create(request("twice-1"));
      await provider.dial(made.id);
      await Promise.all([provider.destroy(made.id), target.rival.destroy(made.id)]);
      assert.equal(await provider.get(made.id), null);
    });

    check("a former id does not destroy the worker that has the name now", async (provider) => {
      const former = await provider.create(request("reborn-1"));
      await provider.destroy(former.id);
      const present = await provider.create(request("reborn-1", { nonce: "second" }));
      assert.notEqual(present.id, former.id);
      await provider.destroy(former.id);
      assert.equal((await provider.get(present.id))?.nonce, "second");
    });

    check("an id that never was is gone, by positive evidence", async (provider) => {
      assert.equal(await provider.get("never-was"), null);
      const refused = await assertRefuses(provider.dial("never-was"), "gone");
      assert.equal(refused.code, "not_found");
    });

    check("looking never wakes; dialling does", async (provider) => {
      const made = await provider.create(request("sleep-1"));
      const state = async () => {
        const [one] = await provider.list("sleep-");
        const same = await provider.get(made.id);
        assert.equal(one?.state, same?.state);
        return one?.state;
      };
      const asleep = await state();
      assert.ok(asleep === "cold" || asleep === "warm" || asleep === "running", asleep);
      assert.equal(await state(), asleep, "looking changed nothing");
      const { address, hostKey } = await provider.dial(made.id);
      assert.equal(await state(), "running");
      assert.ok(address.user !== "" && address.port > 0);
      assert.ok(hostKey === null || hostKey.startsWith("SHA256:"));
    });

    check("those who dial at once get the same address", async (provider) => {
      const made = await provider.create(request("dial-1"));
      const dials = await Promise.all([
        provider.dial(made.id),
        target.rival.dial(made.id),
        provider.dial(made.id),
      ]);
      for (const dial of dials) assert.deepEqual(dial, dials[0]);
      assert.deepEqual(await provider.dial(made.id), dials[0]);
    });

    check("workers of another fleet are shown with their fleet", async (provider) => {
      const foreign = await target.rival.create(request("other-1", { fleetId: "fleet-b" }));
      assert.deepEqual(
        (await provider.list("other-")).map((worker: ProviderWorker) => worker.fleetId),
        ["fleet-b"],
      );
      assert.equal((await provider.get(foreign.id))?.fleetId, "fleet-b");
    });

    check("a name that is no name is refused before anything happens", async (provider) => {
      const before = await listed("");
      for (const worker of ["", "../x", "a/b", "-x", "A", "a b", ".building-x", "x".repeat(41)]) {
        await assert.rejects(
          provider.create(request(worker)),
          (error) => error instanceof OrchestratorError && error.code === "invalid_input",
          worker,
        );
      }
      assert.deepEqual(await listed(""), before);
    });

    check("the capacity is unknown, or falls with every worker", async (provider) => {
      const before = await provider.capacity();
      const made = await provider.create(request("room-1"));
      const after = await provider.capacity();
      await provider.destroy(made.id);
      if (before === null) assert.equal(after, null);
      else assert.deepEqual([after, await provider.capacity()], [before - 1, before]);
    });

    check(
      "without room nothing is made, it is said, and there is room again after one went",
      async (provider) => {
        const made: ProviderWorker[] = [];
        for (let room = await provider.capacity(); room !== null && room > 0;) {
          made.push(await provider.create(request(`full-${made.length + 1}`)));
          room = await provider.capacity();
        }
        const one = made[0];
        if (one === undefined) return;
        const before = await listed("");
        const refused = await assertRefuses(provider.create(request("more-1")), "no_capacity");
        assert.deepEqual([refused.code, refused.retryable], ["nothing_available", true]);
        assert.deepEqual(await listed(""), before);
        await provider.destroy(one.id);
        assert.equal((await provider.create(request("more-1"))).name, "more-1");
      },
    );
  });
}
