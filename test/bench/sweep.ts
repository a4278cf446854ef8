import { fork, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import ssh2, { type Client as SshClient } from "ssh2";
import { connect } from "node:net";
import { stringify } from "yaml";
import { ensureKeys } from "../../src/config/keys.ts";
import { ensureHome, homePaths } from "../../src/config/paths.ts";
import { connectController, type Client } from "../../src/operations/client.ts";
import { checkView } from "../../src/operations/views.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { listWindowsCommand } from "../../src/tmux/commands.ts";
import { parseWindows } from "../../src/tmux/windows.ts";
import { remoteCommand } from "../../src/transport/quote.ts";
import { tmuxFarm, type FarmWorker, type TmuxFarm } from "../support/tmux-farm.ts";
import { until } from "../support/wait.ts";
import { interleave, median, series, timed, type Series } from "./measure.ts";
import { VERSION } from "./product.ts";
import { ratio, type Findings, type Goal } from "./report.ts";
import type { SweepStats } from "./sweep-child.ts";

/*
 * P3: until the windows of every worker are known. N tmux servers behind one sshd, and for the product as many more workers that sleep.
 * Ansible and pssh take part where they are installed.
 */

const COMMAND = remoteCommand(listWindowsCommand("kite-dev"));
/** As the product has it by default. */
const AT_ONCE = 32;

export async function sweep(count: number, rounds: number): Promise<Findings> {
  const root = mkdtempSync(join(tmpdir(), "bench-"));
  const homes = [join(root, "kept"), join(root, "fresh")] as const;
  const keys = await Promise.all(
    homes.map(async (home) => {
      const paths = homePaths(home);
      await ensureHome(paths);
      const made = await ensureKeys(paths, randomIds());
      return { file: made.privateKey, line: made.publicLine };
    }),
  );
  const own: AsyncDisposable[] = [];
  using farm = await tmuxFarm(count, keys.map(({ line }) => line).join("\n"));
  try {
    const [kept, fresh] = [
      await openSweeper(homes[0], farm, count),
      await openSweeper(homes[1], farm, count),
    ];
    own.push(kept, fresh);
    await kept.connectAll();
    const floor = await openFloor(farm, keys[0]?.file ?? "");
    own.push(floor);
    const scripts = await openScripts(root, farm, keys[0]?.file ?? "");
    own.push(scripts);
    return await measure({ count, rounds, kept, fresh, floor, scripts });
  } finally {
    for (const part of own.toReversed()) await part[Symbol.asyncDispose]();
    rmSync(root, { recursive: true, force: true });
  }
}

interface Contestants {
  readonly count: number;
  readonly rounds: number;
  readonly kept: Sweeper;
  readonly fresh: Sweeper;
  readonly floor: Floor;
  readonly scripts: Scripts;
}

async function measure({ count, rounds, ...by }: Contestants): Promise<Findings> {
  const product = series("product, kept connections");
  const productCpu = series("product, kept connections: controller's CPU");
  const productFresh = series("product, a connection for each look");
  const execFloor = series("floor: ssh2 exec on kept connections");
  const coldFloor = series(`floor: ssh2 connect and exec, ${AT_ONCE} at once`);
  const scripts = by.scripts.ways.map(({ name, run }) => ({ readings: series(name), run }));
  let [opened, woken] = [0, 0];
  const clocked = async (readings: Series, act: () => Promise<void>) => {
    const began = performance.now();
    await act();
    readings.samples.push(performance.now() - began);
  };
  await by.kept.sweep();
  await by.fresh.sweep();
  await by.floor.sweepKept();
  await interleave(rounds, [
    async () => {
      const before = await by.kept.stats();
      await clocked(product, () => by.kept.sweep());
      const after = await by.kept.stats();
      productCpu.samples.push(after.cpuMs - before.cpuMs);
      opened += after.connections - before.connections;
      woken = Math.max(woken, after.woken);
    },
    () => clocked(productFresh, () => by.fresh.sweep()),
    () => clocked(execFloor, () => by.floor.sweepKept()),
    () => clocked(coldFloor, () => by.floor.sweepCold()),
    ...scripts.map(
      ({ readings, run }) =>
        () =>
          clocked(readings, run),
    ),
  ]);
  woken = Math.max(woken, (await by.fresh.stats()).woken);
  const goal = (what: string, value: number, better: Goal["better"], limit: number): Goal => ({
    id: "P3",
    what: `${count} workers, ${what}`,
    value,
    limit,
    better,
    unit: "x",
  });
  const counted = (what: string, value: number, unit: Goal["unit"]): Goal => ({
    ...goal(what, value, "at most", 0),
    unit,
    isCount: true,
  });
  const named = (name: string) => scripts.find(({ readings }) => readings.name === name)?.readings;
  const [serial, parallel, ansible] = [SERIAL, PARALLEL, ANSIBLE].map(named);
  return {
    series: [
      product,
      productCpu,
      productFresh,
      execFloor,
      coldFloor,
      ...scripts.map(({ readings }) => readings),
    ],
    goals: [
      goal("product / exec floor, kept connections", ratio(product, execFloor), "at most", 1.3),
      goal(
        "product / connect floor, own connections",
        ratio(productFresh, coldFloor),
        "at most",
        1.3,
      ),
      ...(serial
        ? [goal("OpenSSH one by one / product", ratio(serial, product), "at least", 10)]
        : []),
      ...(parallel
        ? [goal("OpenSSH 10 at once / product", ratio(parallel, product), "at least", 5)]
        : []),
      ...(ansible ? [goal("Ansible / product", ratio(ansible, product), "at least", 100)] : []),
      counted("connections opened by a sweep over kept ones", opened, "connections"),
      counted("sleeping workers dialled", woken, "workers"),
    ],
    notes: [
      `${count} sleeping workers beside them; controller's CPU is ${((median(productCpu.samples) / count) * 1_000).toFixed(0)} ms for 1,000 workers at this rate`,
      "by exec: no control channel is kept to a worker, so the 2 x floor of control channels is not the measure",
      ...by.scripts.missing.map((name) => `${name} is not installed here`),
    ],
  };
}

interface Sweeper extends AsyncDisposable {
  sweep(): Promise<void>;
  /** Afterwards there is a kept connection to each worker. */
  connectAll(): Promise<void>;
  stats(): Promise<SweepStats>;
}

async function openSweeper(home: string, farm: TmuxFarm, asleep: number): Promise<Sweeper> {
  const paths = homePaths(home);
  const settings = join(home, "farm.json");
  const { hostKey, workers } = farm;
  writeFileSync(settings, JSON.stringify({ hostKey, workers, asleep }));
  const repos = { kite: { url: "/nowhere", runtime: "shell", provider: "steady" } };
  const check = { log: join(home, "the-status.log"), workerSeconds: 60 };
  writeFileSync(paths.config, stringify({ repos, check }));
  const child = fork(join(import.meta.dirname, "sweep-child.ts"), [settings], {
    env: { PATH: process.env["PATH"], HOME: dirname(home), ORCHESTRATOR_HOME: home },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const client = await until<Client>(
    () => connectController({ path: paths.socket, version: VERSION }) as Promise<Client>,
    { what: "the controller's socket", timeoutMs: 60_000 },
  );
  return {
    async sweep() {
      const { counts } = checkView.parse(await client.call("check", {}));
      if (counts.read !== workers.length || counts.asleep !== asleep) {
        throw new Error(`the sweep was not whole: ${JSON.stringify(counts)}`);
      }
    },
    async connectAll() {
      const names = workers.map((_, index) => `kite-${index + 1}`);
      for (let at = 0; at < names.length; at += 16) {
        const some = names.slice(at, at + 16);
        await Promise.all(
          some.map((worker) => client.call("worker.exec", { worker, argv: ["true"] })),
        );
      }
    },
    stats() {
      const answer = new Promise<SweepStats>((resolve) => {
        child.once("message", (stats) => resolve(stats as SweepStats));
      });
      child.send("stats");
      return answer;
    },
    async [Symbol.asyncDispose]() {
      await client.close();
      await ended(child);
    },
  };
}

interface Floor extends AsyncDisposable {
  sweepKept(): Promise<void>;
  sweepCold(): Promise<void>;
}

/** What a hundred lines without a product do: ssh2, no delay, the same command and parser. */
async function openFloor({ workers }: TmuxFarm, keyFile: string): Promise<Floor> {
  const { readFileSync } = await import("node:fs");
  const privateKey = readFileSync(keyFile, "utf8");
  const kept = await inTurns(workers, 16, (worker) => dial(worker, privateKey));
  return {
    sweepKept: async () => {
      await Promise.all(kept.map(windowsOver));
    },
    sweepCold: async () => {
      await inTurns(workers, AT_ONCE, async (worker) => {
        const client = await dial(worker, privateKey);
        await windowsOver(client);
        client.end();
      });
    },
    [Symbol.asyncDispose]: async () => {
      for (const client of kept) client.end();
    },
  };
}

function dial({ host, port, user }: FarmWorker, privateKey: string): Promise<SshClient> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    const sock = connect({ host, port, noDelay: true });
    client.once("ready", () => resolve(client)).once("error", reject);
    client.connect({
      sock,
      username: user,
      privateKey,
      algorithms: { kex: ["curve25519-sha256"], serverHostKey: ["ssh-ed25519"] },
    });
  });
}

function windowsOver(client: SshClient): Promise<void> {
  return new Promise((resolve, reject) => {
    client.exec(COMMAND, (error, channel) => {
      if (error) return reject(error);
      let out = "";
      channel.on("data", (chunk: Buffer) => (out += chunk.toString()));
      channel.stderr.resume();
      channel.on("close", () => {
        if (parseWindows(out).length === 3) resolve();
        else reject(new Error(`no windows: ${out}`));
      });
    });
  });
}

async function inTurns<In, Out>(
  items: readonly In[],
  atOnce: number,
  act: (item: In) => Promise<Out>,
): Promise<Out[]> {
  const results: Out[] = [];
  let next = 0;
  const turn = async () => {
    for (let at = next++; at < items.length; at = next++) results[at] = await act(items[at] as In);
  };
  await Promise.all(Array.from({ length: atOnce }, turn));
  return results;
}

const SERIAL = "OpenSSH, one by one";
const PARALLEL = "OpenSSH, 10 at once";
const ANSIBLE = "Ansible (shell, pipelining), 10 at once";

interface Scripts extends AsyncDisposable {
  readonly ways: readonly { readonly name: string; readonly run: () => Promise<void> }[];
  readonly missing: readonly string[];
}

/** What people write first, and the tools of the distribution. */
async function openScripts(root: string, { workers }: TmuxFarm, keyFile: string): Promise<Scripts> {
  const masters = join(root, "m");
  mkdirSync(masters);
  const hosts = workers.map((_, index) => `w${index}`);
  const style = (name: string, more: readonly string[]) => {
    const path = join(root, `ssh-${name}`);
    const each = workers.map(({ host }, index) => `Host w${index}\nHostName ${host}`);
    const all = [
      "Host *",
      `Port ${workers[0]?.port}`,
      `User ${workers[0]?.user}`,
      `IdentityFile ${keyFile}`,
      "IdentitiesOnly yes",
      "StrictHostKeyChecking no",
      "UserKnownHostsFile /dev/null",
      "LogLevel ERROR",
      ...more,
    ];
    writeFileSync(path, `${[...each, ...all].join("\n")}\n`);
    return path;
  };
  const plain = style("plain", []);
  const master = style("master", [
    `ControlPath ${masters}/%n`,
    "ControlMaster auto",
    "ControlPersist 600",
  ]);
  const ssh = (config: string, atOnce: number) => async () => {
    const argv = ["xargs", "-P", String(atOnce), "-I{}", "ssh", "-n", "-F", config, "{}", COMMAND];
    const { stdout } = await timed(argv, { input: `${hosts.join("\n")}\n` });
    whole(stdout, hosts.length);
  };
  // The first raises the masters.
  await ssh(master, 10)();
  const ways = [
    { name: SERIAL, run: ssh(plain, 1) },
    { name: PARALLEL, run: ssh(plain, 10) },
    { name: "OpenSSH, ControlMaster, 10 at once", run: ssh(master, 10) },
  ];
  const missing: string[] = [];
  const hostFile = join(root, "hosts");
  writeFileSync(hostFile, `${hosts.join("\n")}\n`);
  const pssh = (await found("parallel-ssh")) ?? (await found("pssh"));
  if (pssh === undefined) missing.push("pssh");
  else {
    const argv = [pssh, "-h", hostFile, "-p", "10", "-t", "0", "-i", "-x", `-F ${plain}`, COMMAND];
    const run = async () => whole((await timed(argv)).stdout, hosts.length);
    ways.push({ name: "pssh, 10 at once", run });
  }
  const ansible = await found("ansible");
  if (ansible === undefined) missing.push("Ansible");
  else {
    const env = {
      ...process.env,
      ANSIBLE_PIPELINING: "True",
      ANSIBLE_HOST_KEY_CHECKING: "False",
      ANSIBLE_SSH_ARGS: `-F ${plain} -o ControlMaster=auto -o ControlPersist=600 -o ControlPath=${masters}/a-%n`,
      ANSIBLE_LOCAL_TEMP: join(root, "ansible"),
    };
    const argv = [ansible, "all", "-i", `${hosts.join(",")},`, "-f", "10", "-m", "shell"];
    const run = async () => {
      const { stdout } = await timed([...argv, "-a", COMMAND], {
        env,
      });
      whole(stdout, hosts.length);
    };
    ways.push({ name: ANSIBLE, run });
  }
  return {
    ways,
    missing,
    [Symbol.asyncDispose]: async () => {
      for (const host of hosts) {
        await timed(["ssh", "-F", master, "-O", "exit", host]).catch(() => {});
      }
    },
  };
}

const found = async (program: string): Promise<string | undefined> =>
  timed(["sh", "-c", `command -v ${program}`]).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );

/** A tool that fails fast must not win. */
function whole(stdout: string, count: number): void {
  const guards = stdout.split("\n").filter((line) => line.endsWith("/guard")).length;
  if (guards !== count) throw new Error(`${guards} of ${count} workers answered`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await over;
}
