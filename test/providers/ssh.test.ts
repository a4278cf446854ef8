import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { OrchestratorError } from "../../src/domain/errors.ts";
import type { CreateRequest, Provider } from "../../src/providers/provider.ts";
import { ProviderError } from "../../src/providers/provider-error.ts";
import { TAKE, parseSeen } from "../../src/providers/ssh/claim.ts";
import { TransportError } from "../../src/transport/transport-error.ts";
import { assertRefuses } from "../conformance/provider.ts";
import { generateClientKeys } from "../support/client-keys.ts";
import { hostInput, lan } from "../support/ssh-fleet.ts";
import { until } from "../support/wait.ts";

const keys = generateClientKeys("ours");
const request = (name: string, more: Partial<CreateRequest> = {}): CreateRequest => ({
  name,
  fleetId: "fleet-a",
  nonce: `nonce-${name}`,
  authorizedKey: keys.publicKey,
  ...more,
});

async function failureOf(promise: Promise<unknown>): Promise<TransportError> {
  const error = await promise.then(
    () => assert.fail("expected a failure"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof TransportError, String(error));
  return error;
}

const stateOf = async (provider: Provider, id: string) => (await provider.get(id))?.state;

test("a host is given back as it was found: clone, session, processes, our key and our folder are gone, the rest stays", async () => {
  await using machines = lan([keys.publicKey]);
  const person = machines.operator("person");
  const host = await machines.machine("mini", {
    authorizedKeys: [person.keys.publicKey, "# a comment"],
  });
  const authorized = join(host.home, ".ssh", "authorized_keys");
  const before = readFileSync(authorized, "utf8");
  writeFileSync(join(host.home, "notes.txt"), "the operator's");
  // Logged in to with a key of the operator's: that of the orchestrator comes with the worker, and goes with it.
  const ours = machines.operator("ours", keys);
  ours.list(hostInput(host, { identityFile: join(person.home, "id_ed25519") }));
  const { provider } = ours;
  const made = await provider.create(request("kite-1"));
  {
    await using transport = await ours.open(made.id);
    appendFileSync(authorized, `${keys.publicKey}\n`);
    const script = `. "$HOME/.orchestrator/lib.sh" && tm -f /dev/null new-session -d -s kite-dev 'sleep 300' &&
      { setsid sleep 300 </dev/null >/dev/null 2>&1 & } && mkdir -p kite/deep && chmod 500 kite/deep && echo "$TMUX_TMPDIR"`;
    await transport.upload(".orchestrator/lib.sh", readFileSync("provision/worker/lib.sh"), 0o600);
    const result = await transport.script(script);
    assert.equal(
      result.stdout,
      `${host.home}/.orchestrator/tmux\n`,
      "tmux has a socket of its own",
    );
  }
  const marked = () =>
    execFileSync(
      "sh",
      ["-c", `grep -lszxF "ORCHESTRATOR_WORKER=${made.id}" /proc/[0-9]*/environ || :`],
      { encoding: "utf8" },
    );
  assert.notEqual(marked(), "");
  await provider.destroy(made.id);
  assert.equal(marked(), "");
  assert.equal(readFileSync(authorized, "utf8"), before);
  assert.deepEqual(execFileSync("ls", ["-A", host.home], { encoding: "utf8" }).trim().split("\n"), [
    ".ssh",
    "notes.txt",
  ]);
});

test("our key stays where the operator had put it", async () => {
  await using machines = lan([keys.publicKey]);
  const host = await machines.machine("mini");
  const { provider, ...ours } = machines.operator("ours", keys);
  assert.ok(provider.capabilities.sharesMachine, "the mode that asks is the default");
  ours.list(hostInput(host));
  const made = await provider.create(request("kite-1"));
  await provider.destroy(made.id);
  const authorized = readFileSync(join(host.home, ".ssh", "authorized_keys"), "utf8");
  assert.equal(authorized, `${keys.publicKey}\n`);
});

test("a host that is not shared keeps tmux's own socket, and the operator's session and folder are never taken", async () => {
  await using machines = lan([keys.publicKey]);
  const hosts = [
    await machines.machine("a"),
    await machines.machine("b"),
    await machines.machine("c"),
  ];
  const [a, b, c] = hosts;
  assert.ok(a !== undefined && b !== undefined && c !== undefined);
  const { provider, ...ours } = machines.operator("ours", keys);
  mkdirSync(join(a.home, "kite"));
  const tmux = (...args: string[]) =>
    execFileSync("tmux", args, {
      env: { PATH: process.env["PATH"], HOME: b.home, TMUX_TMPDIR: join(b.home, "..", "t") },
    });
  tmux("-f", "/dev/null", "new-session", "-d", "-s", "kite-dev");
  ours.list(...hosts.map((host) => hostInput(host, { shared: false })));
  const made = await provider.create(request("kite-1"));
  assert.match(made.id, /^ssh:c:/);
  assert.equal(existsSync(join(a.home, ".orchestrator")), false);
  assert.equal(existsSync(join(b.home, ".orchestrator")), false);
  assert.match(readFileSync(join(c.home, ".orchestrator", "claim"), "utf8"), /^tmux=$/m);
  const refused = await assertRefuses(provider.create(request("kite-2")), "no_capacity");
  assert.match(refused.message, /host a cannot be used: ~\/kite is there already/);
  assert.match(
    refused.message,
    /host b cannot be used: somebody has a tmux session kite-dev there/,
  );
  assert.match(refused.message, /host c is kite-1 of fleet fleet-a/);
  tmux("kill-server");
});

test("two fleets on one host: one takes it, the other sees whose it is and never changes it", async () => {
  await using machines = lan([keys.publicKey]);
  const host = await machines.machine("mini");
  const fleets = [machines.operator("one", keys), machines.operator("two", keys)];
  for (const fleet of fleets) fleet.list(hostInput(host));
  const settled = await Promise.allSettled(
    fleets.map(({ provider }, index) =>
      provider.create(request(`kite-${index + 1}`, { fleetId: `fleet-${index}` })),
    ),
  );
  const winner = settled.findIndex(({ status }) => status === "fulfilled");
  const loser = settled[1 - winner];
  assert.ok(loser?.status === "rejected" && loser.reason instanceof ProviderError);
  assert.equal(loser.reason.failure, "no_capacity");
  assert.match(loser.reason.message, new RegExp(`is kite-${winner + 1} of fleet fleet-${winner}`));
  const other = fleets[1 - winner]?.provider;
  const [seen] = (await other?.list("")) ?? [];
  assert.deepEqual([seen?.name, seen?.fleetId], [`kite-${winner + 1}`, `fleet-${winner}`]);
  assert.equal(
    readFileSync(join(host.home, ".orchestrator", "owner"), "utf8"),
    `fleet-${winner}\n`,
  );
  assert.equal(await other?.capacity(), 0);
});

test("of many that take one host at the same moment exactly one has it, every time", async () => {
  const home = mkdtempSync(join(tmpdir(), "host-"));
  const env = { PATH: process.env["PATH"], HOME: home };
  const run = promisify(execFile);
  for (let round = 0; round < 12; round += 1) {
    const answers = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => {
        const id = `ssh:mini:claim-${round}${index}`;
        const labels = [
          id,
          `kite-${index + 1}`,
          `fleet-${index}`,
          "nonce",
          "1",
          "yes",
          "kite",
          "AAAA",
        ];
        const { stdout } = await run("sh", ["-c", TAKE, "sh", ...labels], { env });
        const seen = parseSeen(stdout);
        return seen?.kind === "claimed" && seen.claim.id === id;
      }),
    );
    assert.equal(answers.filter(Boolean).length, 1);
    rmSync(join(home, ".orchestrator"), { recursive: true });
  }
  rmSync(home, { recursive: true });
});

test("a host that cannot be reached is unreachable and keeps its name; one taken out of the list, wiped or taken over is gone", async () => {
  await using machines = lan([keys.publicKey]);
  const host = await machines.machine("mini");
  const { provider, ...ours } = machines.operator("ours", keys);
  ours.list(hostInput(host));
  const made = await provider.create(request("kite-1"));
  await host.stop();
  await until(async () => (await stateOf(provider, made.id)) === "unreachable", {
    what: "unreachable",
  });
  assert.deepEqual(await provider.list("kite-"), [{ ...made, state: "unreachable" }]);
  assert.equal((await failureOf(provider.dial(made.id))).failure, "refused");
  assert.equal((await failureOf(provider.destroy(made.id))).code, "unreachable");
  assert.equal(await provider.capacity(), 0);
  await assertRefuses(provider.create(request("kite-2")), "no_capacity");
  await host.start();
  await until(async () => (await stateOf(provider, made.id)) === "running", {
    what: "running again",
  });

  const claim = join(host.home, ".orchestrator", "claim");
  const text = readFileSync(claim, "utf8");
  writeFileSync(claim, text.replace(made.id, "ssh:mini:claim-0other"));
  assert.equal(await provider.get(made.id), null, "another claim");
  await assertRefuses(provider.dial(made.id), "gone");
  writeFileSync(claim, "half a cl");
  assert.equal(await stateOf(provider, made.id), "unreachable", "no evidence for anything");
  await assertRefuses(provider.destroy(made.id), "unavailable");
  writeFileSync(claim, text);
  assert.equal(await stateOf(provider, made.id), "running");
  ours.list();
  assert.equal(await provider.get(made.id), null, "not listed any more");
  await provider.destroy(made.id);
  assert.ok(existsSync(claim), "a host that is not listed is not touched");
});

test("a create that was cut off goes on at the host that it had chosen, and is not repeated elsewhere", async () => {
  await using machines = lan([keys.publicKey]);
  const [first, second] = [await machines.machine("a"), await machines.machine("b")];
  const { provider, ...ours } = machines.operator("ours", keys);
  ours.list(hostInput(first), hostInput(second));
  // As a controller leaves it that died after it had asked the host, and before the answer.
  ours.write(
    "ssh/hosts.json",
    JSON.stringify([
      {
        host: "b",
        id: "ssh:b:claim-0asked",
        ...request("kite-1"),
        authorizedKey: undefined,
        createdAt: 1,
        takenAt: null,
      },
    ]),
  );
  await second.stop();
  await assertRefuses(provider.create(request("kite-1")), "unknown_outcome");
  assert.equal(existsSync(join(first.home, ".orchestrator")), false);
  await second.start();
  const made = await provider.create(request("kite-1"));
  assert.equal(made.id, "ssh:b:claim-0asked");
  assert.equal((await provider.create(request("kite-2"))).id.split(":")[1], "a");
});

test("each way not to get in has its own code: refused, mute, no key let in, another host key", async () => {
  await using machines = lan([keys.publicKey]);
  const host = await machines.machine("mini");
  const ours = machines.operator("ours", keys);
  const { provider } = ours;
  ours.list(hostInput(host));
  const made = await provider.create(request("kite-1"));
  const failure = async () => {
    await until(async () => (await stateOf(provider, made.id)) === "unreachable", {
      what: "unreachable",
      timeoutMs: 20_000,
    });
    return failureOf(provider.dial(made.id));
  };
  const authorized = join(host.home, ".ssh", "authorized_keys");
  const letIn = readFileSync(authorized, "utf8");
  writeFileSync(authorized, "");
  await host.stop();
  await host.start();
  const locked = await failure();
  assert.deepEqual(
    [locked.failure, locked.code, locked.retryable],
    ["auth_failed", "unreachable", false],
  );
  assert.match(locked.hint ?? "", /add the line of .*id_ed25519\.pub to authorized_keys/);
  writeFileSync(authorized, letIn);

  const former = host.hostKey();
  await host.stop();
  host.changeHostKey("new");
  await host.start();
  const changed = await failure();
  assert.deepEqual([changed.failure, changed.code], ["host_key_changed", "needs_person"]);
  assert.ok(
    changed.message.includes(host.hostKey()) && changed.message.includes(former),
    changed.message,
  );
  assert.match(changed.hint ?? "", /orchestrator worker trust kite-1 --host-key SHA256:/);
  await host.stop();
  host.changeHostKey("former");
  await host.start();
  await until(async () => (await stateOf(provider, made.id)) === "running", {
    what: "the former key again",
  });
  await host.stop();
  assert.equal((await failure()).failure, "refused");

  const mute = createServer((socket) => socket.on("error", () => {}));
  mute.listen(host.port, host.address);
  assert.equal((await failure()).failure, "refused", "not asked again in the meantime");
  await until(async () => (await failureOf(provider.dial(made.id))).failure === "timeout", {
    what: "a time-out",
    timeoutMs: 20_000,
  });
  mute.close();
});

test("a new host key is accepted at a person's word only, and only that one", async () => {
  await using machines = lan([keys.publicKey]);
  const host = await machines.machine("mini");
  const ours = machines.operator("ours", keys);
  const { provider } = ours;
  ours.list(hostInput(host));
  const made = await provider.create(request("kite-1"));
  await host.stop();
  host.changeHostKey("new");
  await host.start();
  const trust = (key: string) => provider.trustHostKey?.(made.id, key) ?? assert.fail();
  const other = `SHA256:${"A".repeat(43)}`;
  assert.equal((await failureOf(trust(other))).failure, "host_key_changed");
  assert.equal(await trust(host.hostKey()), "mini");
  assert.equal(await stateOf(provider, made.id), "running");
  assert.equal(ours.knownHosts(), `${host.knownLine()}\n`);
  await assert.rejects(
    trust(other),
    (error) => error instanceof OrchestratorError && error.code === "not_found",
  );

  ours.list(hostInput(host, { hostKey: other }));
  const pinned = await failureOf(provider.dial(made.id));
  assert.equal(pinned.failure, "host_key_changed");
  assert.match(pinned.hint ?? "", /hostKey of mini in the configuration/);
  await assert.rejects(
    trust(host.hostKey()),
    (error) => error instanceof OrchestratorError && error.code === "invalid_config",
  );
});

test("host keys come from the configuration, else from known_hosts, else from the first contact", async () => {
  await using machines = lan([keys.publicKey]);
  const [pinned, known, fresh] = [
    await machines.machine("pinned"),
    await machines.machine("known"),
    await machines.machine("fresh"),
  ];
  const wrong = generateClientKeys("x").publicKey;
  const ours = machines.operator("ours", keys);
  const dial = async (machine: typeof pinned, more: Readonly<Record<string, unknown>> = {}) => {
    ours.list(hostInput(machine, more));
    await ours.links.script(machine.name, "true", []);
  };
  ours.write(".ssh/known_hosts", `[127.0.0.1]:${known.port} ${wrong}\n`);
  assert.equal((await failureOf(dial(known))).failure, "host_key_changed");
  assert.equal(
    (await failureOf(dial(pinned, { hostKey: wrong.split(" ").slice(0, 2).join(" ") }))).failure,
    "host_key_changed",
  );
  await dial(pinned, { hostKey: pinned.hostKey() });
  await dial(pinned, { hostKey: pinned.knownLine().split(" ").slice(1).join(" ") });
  await dial(fresh);
  assert.ok(ours.knownHosts().includes(pinned.knownLine()), "the whole key is kept for OpenSSH");
  assert.ok(ours.knownHosts().includes(fresh.knownLine()));
});

test("keys by file: asked-for ones must be usable; the alias in ~/.ssh/config says the rest", async () => {
  await using machines = lan([keys.publicKey]);
  const theirs = generateClientKeys("theirs");
  const host = await machines.machine("mini", { authorizedKeys: [theirs.publicKey] });
  const ours = machines.operator("ours", keys);
  ours.list({ name: "mini" });
  const run = () => ours.links.script("mini", 'echo "$HOME"', []);
  ours.write(".ssh/agents", theirs.privateKey);
  ours.write(
    ".ssh/config",
    `Host mini\n  HostName ${host.address}\n  Port ${host.port}\n  IdentityFile ~/.ssh/agents\n`,
  );
  assert.equal((await run()).stdout, `${host.home}\n`);
  ours.set({ hosts: [{ name: "mini" }], config: "none" });
  const lost = await failureOf(run());
  assert.match(lost.message, /^mini:22 /);
  ours.set({ hosts: [hostInput(host)], config: "none" });
  assert.equal((await failureOf(run())).failure, "auth_failed");
  ours.write(".ssh/id_ed25519", theirs.privateKey);
  assert.equal((await run()).code, 0, "OpenSSH's usual names are tried");
  const locked = join(ours.home, "locked");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "secret", "-f", locked]);
  ours.list(hostInput(host, { identityFile: locked, user: host.user }));
  await assert.rejects(run(), /locked has a passphrase/);
  ours.list({ name: "mini", jump: [] });
  ours.write(".ssh/config", "Host mini\n  ProxyCommand nc %h %p\n");
  ours.list({ name: "mini" });
  await assert.rejects(run(), /reached by a ProxyCommand/);
});

test("a host behind two jump hosts is reached, each hop with its own key check, and what fails names the hop", async () => {
  await using machines = lan([keys.publicKey]);
  const [outer, inner, host] = [
    await machines.machine("outer", { forwards: true }),
    await machines.machine("inner", { forwards: true }),
    await machines.machine("mini"),
  ];
  const ours = machines.operator("ours", keys);
  const { provider } = ours;
  ours.write(
    ".ssh/config",
    [outer, inner, host]
      .map(({ name, address, port }) => `Host ${name}\n  HostName ${address}\n  Port ${port}\n`)
      .join("") + "Host inner\n  ProxyJump outer\nHost mini\n  ProxyJump inner\n",
  );
  ours.list({ name: "mini" });
  const made = await provider.create(request("kite-1"));
  for (const hop of [outer, inner, host])
    assert.ok(ours.knownHosts().includes(hop.knownLine()), hop.name);
  const failure = async () => {
    await until(async () => (await stateOf(provider, made.id)) === "unreachable", {
      what: "unreachable",
      timeoutMs: 20_000,
    });
    return failureOf(ours.links.script("mini", "true", []));
  };
  await inner.stop();
  const closed = await failure();
  assert.deepEqual([closed.failure, closed.outcome], ["refused", "not-started"]);
  assert.match(closed.message, /inner \(127\.0\.0\.1:\d+\) cannot be reached from jump host outer/);
  inner.changeHostKey("new");
  await inner.start();
  const changed = await failure();
  assert.equal(changed.failure, "host_key_changed");
  assert.match(changed.message, /^inner \(/);
  assert.equal(await provider.trustHostKey?.(made.id, inner.hostKey()), "inner");
  assert.equal(await stateOf(provider, made.id), "running");
  await outer.stop();
  const cut = await failure();
  assert.deepEqual([cut.failure, cut.details["hop_failure"]], ["jump_failed", "refused"]);
  assert.match(
    cut.message,
    /^jump host outer \(.*\) refused the connection.*, so that mini \(.*\) cannot be reached$/,
  );
  await outer.start();
  const authorized = join(outer.home, ".ssh", "authorized_keys");
  writeFileSync(authorized, "");
  await outer.stop();
  await outer.start();
  const locked = await failure();
  assert.deepEqual([locked.failure, locked.details["hop_failure"]], ["jump_failed", "auth_failed"]);
});

test("a jump host that forwards nothing is said to be the one", async () => {
  await using machines = lan([keys.publicKey]);
  const [gate, host] = [await machines.machine("gate"), await machines.machine("mini")];
  const ours = machines.operator("ours", keys);
  ours.list(hostInput(host, { jump: [{ host: gate.address, port: gate.port }] }));
  const refused = await failureOf(ours.links.script("mini", "true", []));
  assert.equal(refused.failure, "jump_failed");
  assert.match(refused.message, /jump host 127\.0\.0\.1:\d+ does not let us through to mini/);
});
