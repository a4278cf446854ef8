import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { localWorkers } from "../support/local-workers.ts";
import { timed, wallMs } from "./measure.ts";
import type { Dispatched } from "./product.ts";
import { BOOT_S } from "./prompt.ts";
import type { PrototypeSettings } from "./prototype-daemon.ts";
import { REPOSITORY } from "./repository.ts";

const AGENT = join(import.meta.dirname, "prototype-agent.sh");

/** How a plain script connects. */
export const SSH_STYLES = {
  defaults: [],
  curve25519: ["KexAlgorithms curve25519-sha256"],
  master: ["ControlMaster auto", "ControlPersist 600"],
} as const;
export type SshStyle = keyof typeof SSH_STYLES;

/** The floor: prototype-daemon.ts with warm workers of its own, and the plain script on the first of them. */
export interface Prototype extends AsyncDisposable {
  readonly workers: readonly string[];
  dispatchByCli(text: string): Promise<Dispatched>;
  dispatch(text: string, worker: string): Promise<Dispatched>;
  /** Six OpenSSH calls in a row. */
  dispatchByScript(text: string, style: SshStyle): Promise<Dispatched>;
}

const answerShape = z.object({ id: z.string(), heldAt: z.number(), hash: z.string() });

export async function openPrototype(count: number): Promise<Prototype> {
  const fleet = await localWorkers();
  const own: AsyncDisposable[] = [fleet];
  const dispose = async () => {
    for (const part of own.toReversed()) await part[Symbol.asyncDispose]();
  };
  try {
    const remote = makeRemote(fleet.root);
    const names = Array.from({ length: count }, (_, index) => `floor-${index + 1}`);
    const workers = [];
    for (const name of names) {
      const { dial, home } = await fleet.start(name);
      const port = dial.address.port;
      workers.push({ name, port, home, hostKey: dial.hostKey, events: join(home, "events") });
    }
    const key = join(fleet.root, ".key");
    writeFileSync(key, fleet.keys.privateKey, { mode: 0o600 });
    const first = workers[0];
    if (first === undefined) throw new Error("a prototype needs a worker");
    for (const style of Object.keys(SSH_STYLES)) {
      writeFileSync(
        sshConfigPath(fleet.root, style),
        sshConfig(fleet.root, key, first.port, style),
      );
    }
    for (const { port } of workers) {
      writeFileSync(
        sshConfigPath(fleet.root, "setup"),
        sshConfig(fleet.root, key, port, "curve25519"),
      );
      const prepare = `cd "$HOME" && git clone --quiet ${remote} kite && tmux -u -f /dev/null new-session -d -s kite-dev -x 200 -y 50`;
      await timed(["ssh", "-F", sshConfigPath(fleet.root, "setup"), "worker", prepare]);
    }
    const socket = join(fleet.root, ".socket");
    const settings: PrototypeSettings = {
      socket,
      database: join(fleet.root, ".database"),
      privateKey: fleet.keys.privateKey,
      user: userInfo().username,
      agent: AGENT,
      bootS: BOOT_S,
      workers: workers.map(({ name, port, events }) => ({ name, port, events })),
    };
    const file = join(fleet.root, ".settings");
    writeFileSync(file, JSON.stringify(settings), { mode: 0o600 });
    own.push(await startDaemon(file));
    const master = sshConfigPath(fleet.root, "master");
    own.push({
      [Symbol.asyncDispose]: async () => {
        await timed(["ssh", "-F", master, "-O", "exit", "worker"]).catch(() => {});
      },
    });
    let scripts = 0;
    return {
      workers: names,
      async dispatchByCli(text) {
        const cli = join(import.meta.dirname, "prototype-cli.cjs");
        const argv = [process.execPath, cli, socket, first.name, text];
        const { startedAt, wallMs: took, stdout } = await timed(argv);
        return dispatched(answerShape.parse(JSON.parse(stdout)), startedAt, took);
      },
      async dispatch(text, worker) {
        const startedAt = wallMs();
        const answer = answerShape.parse(await ask(socket, { worker, text }));
        return dispatched(answer, startedAt, wallMs() - startedAt);
      },
      async dispatchByScript(text, style) {
        scripts += 1;
        const id = `s${scripts}`;
        const prompt = join(fleet.root, ".prompt");
        writeFileSync(prompt, text);
        const script = join(import.meta.dirname, "openssh-script.sh");
        const config = sshConfigPath(fleet.root, style);
        const argv = [script, config, id, first.events, AGENT, String(BOOT_S), remote, prompt];
        const { startedAt, wallMs: took } = await timed(argv);
        const line = readFileSync(first.events, "utf8")
          .split("\n")
          .find((each) => each.startsWith(`held ${id} `));
        const [, , ns, hash = ""] = line?.split(" ") ?? [];
        return dispatched({ id, heldAt: Number(ns) / 1e6, hash }, startedAt, took);
      },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

const dispatched = (
  { id, heldAt, hash }: z.infer<typeof answerShape>,
  startedAt: number,
  took: number,
): Dispatched => ({ runId: id, heldMs: heldAt - startedAt, wallMs: took, hash });

const sshConfigPath = (root: string, style: string): string => join(root, `.ssh-${style}`);

function sshConfig(root: string, key: string, port: number, style: string): string {
  const more = Object.entries(SSH_STYLES).find(([name]) => name === style)?.[1] ?? [];
  return [
    "Host worker",
    "HostName 127.0.0.1",
    `Port ${port}`,
    `User ${userInfo().username}`,
    `IdentityFile ${key}`,
    "IdentitiesOnly yes",
    "StrictHostKeyChecking no",
    "UserKnownHostsFile /dev/null",
    "LogLevel ERROR",
    // With the path alone ssh would use a master that is there.
    ...(style === "master" ? [`ControlPath ${join(root, ".master")}`] : []),
    ...more,
    "",
  ].join("\n");
}

/** The same content as the product's remote. */
function makeRemote(root: string): string {
  const work = join(root, ".seed");
  const remote = join(root, ".kite.git");
  for (const [path, content] of Object.entries(REPOSITORY)) {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), content);
  }
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=T", "-c", "user.email=t@example.invalid", ...args], {
      cwd: work,
      stdio: ["ignore", "ignore", "pipe"],
    });
  git("init", "-q", "-b", "main");
  git("add", "-A");
  git("commit", "-q", "-m", "Begin");
  git("clone", "-q", "--bare", work, remote);
  return remote;
}

async function startDaemon(settings: string): Promise<AsyncDisposable> {
  const daemon = join(import.meta.dirname, "prototype-daemon.ts");
  const child = spawn(process.execPath, [daemon, settings], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const over = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const ready = new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  await Promise.race([
    ready,
    over.then(() => {
      throw new Error("the prototype's daemon ended");
    }),
  ]);
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await over;
    },
  };
}

function ask(path: string, request: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the prototype gave no answer")));
    createInterface({ input: socket }).once("line", (line) => {
      resolve(JSON.parse(line));
      socket.destroy();
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
}
