import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";

import { knownLine, knownName, parseKnownKey } from "../../src/transport/known-hosts.ts";
import { until } from "./wait.ts";

export interface SshMachineOptions {
  /** Folder of all that is the machine's; short, since a tmux socket lies in it. */
  readonly root: string;
  readonly name: string;
  readonly authorizedKeys: readonly string[];
  readonly address?: string;
  readonly port?: number;
  /** Lets connections through to others. */
  readonly forwards?: boolean;
  /** Gives terminals. */
  readonly tty?: boolean;
  /** Network namespace; then the machine also has processes and a boot id of its own. */
  readonly namespace?: string;
}

/** A machine with sshd as an operator has it: its own home, processes that outlive a connection, a host key that stays. */
export interface SshMachine extends AsyncDisposable {
  readonly name: string;
  readonly home: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** Fingerprint of the host key that it shows now. */
  hostKey(): string;
  /** Its line of known_hosts now. */
  knownLine(): string;
  start(): Promise<void>;
  /** Ends sshd and its connections, nothing else. */
  stop(): Promise<void>;
  /** Another key from the next start on; `former` puts the one before back. */
  changeHostKey(which: "new" | "former"): void;
  /** In a namespace: every process of the machine ends, and it starts under a new boot id. */
  reboot(): Promise<void>;
}

export async function sshMachine(options: SshMachineOptions): Promise<SshMachine> {
  const machine = new Machine(options, options.port ?? (await freePort()));
  machine.prepare();
  await machine.start();
  return machine;
}

/** The machine's first process: its own /proc and boot id; all that runs on it ends with it. */
const INIT = `mount --bind "$1" /proc/sys/kernel/random/boot_id && echo up && while :; do sleep 3600 & wait; done`;

class Machine implements SshMachine {
  readonly name: string;
  readonly home: string;
  readonly address: string;
  readonly port: number;
  readonly user = userInfo().username;
  readonly #options: SshMachineOptions;
  readonly #folder: string;
  #init: ChildProcess | undefined;
  #sshd: ChildProcess | undefined;
  #log = "";

  constructor(options: SshMachineOptions, port: number) {
    this.#options = options;
    this.name = options.name;
    this.address = options.address ?? "127.0.0.1";
    this.port = port;
    this.#folder = join(options.root, options.name);
    this.home = join(this.#folder, "home");
  }

  prepare(): void {
    mkdirSync(join(this.home, ".ssh"), { recursive: true, mode: 0o700 });
    mkdirSync(join(this.#folder, "t"), { mode: 0o700 });
    writeFileSync(
      join(this.home, ".ssh", "authorized_keys"),
      this.#options.authorizedKeys.map((key) => `${key.trim()}\n`).join(""),
      { mode: 0o600 },
    );
    this.#makeKey("key-1");
    this.#use("key-1");
    this.#newBootId();
    const { forwards = false, tty = true } = this.#options;
    const environment = [
      `HOME=${this.home}`,
      `TMUX_TMPDIR=${join(this.#folder, "t")}`,
      `PATH=${process.env["PATH"]}`,
      "LANG=C.UTF-8",
    ];
    writeFileSync(
      join(this.#folder, "sshd_config"),
      `ListenAddress ${this.address}:${this.port}
HostKey ${join(this.#folder, "host_key")}
PidFile none
AuthorizedKeysFile ${join(this.home, ".ssh", "authorized_keys")}
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
AllowTcpForwarding ${forwards ? "local" : "no"}
PermitTTY ${tty ? "yes" : "no"}
PermitUserRC no
PrintMotd no
PrintLastLog no
MaxSessions 100
MaxStartups 100
SetEnv ${environment.map((one) => `"${one}"`).join(" ")}
`,
    );
    if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
  }

  hostKey(): string {
    return parseKnownKey(this.#publicKey())?.fingerprint ?? "";
  }

  knownLine(): string {
    const key = parseKnownKey(this.#publicKey());
    return knownLine(knownName(this.address, this.port), key?.blob ?? new Uint8Array());
  }

  async start(): Promise<void> {
    const { namespace } = this.#options;
    if (namespace !== undefined && this.#init === undefined) await this.#boot(namespace);
    const inside =
      this.#init === undefined
        ? []
        : ["nsenter", "-t", String(childrenOf(this.#init)[0]), "-n", "-m", "-p", "--"];
    const argv = [...inside, "/usr/sbin/sshd", "-D", "-e", "-f", join(this.#folder, "sshd_config")];
    const [program = "", ...args] = argv;
    const child = spawn(program, args, {
      cwd: "/",
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env["PATH"] },
    });
    this.#sshd = child;
    this.#log = "";
    child.stderr.on("data", (chunk: Buffer) => (this.#log += chunk.toString()));
    await until(() => this.#log.includes("Server listening") || child.exitCode !== null, {
      what: `sshd of ${this.name} to listen`,
    });
    if (child.exitCode !== null) throw new Error(`sshd of ${this.name} ended: ${this.#log}`);
  }

  async stop(): Promise<void> {
    const child = this.#sshd;
    this.#sshd = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const over = once(child, "exit");
    const listeners = this.#init === undefined ? [child.pid ?? 0] : childrenOf(child);
    // With the listener its connections end; what they started lives on, as programs of its own.
    const all = listeners.flatMap((pid) => [pid, ...sshdBelow(pid)]);
    for (const pid of all) kill(pid);
    await over;
  }

  async #boot(namespace: string): Promise<void> {
    const child = spawn(
      "ip",
      [
        ...`netns exec ${namespace} unshare --pid --fork --mount-proc --kill-child --`.split(" "),
        "sh",
        "-c",
        INIT,
        "sh",
        join(this.#folder, "boot_id"),
      ],
      { cwd: "/", stdio: ["ignore", "pipe", "ignore"], env: { PATH: process.env["PATH"] } },
    );
    this.#init = child;
    await once(child.stdout, "data");
  }

  async #powerOff(): Promise<void> {
    const init = this.#init;
    this.#init = undefined;
    const sshd = this.#sshd;
    this.#sshd = undefined;
    if (init === undefined) return;
    const over = [init, sshd]
      .filter((child) => child !== undefined)
      .filter((child) => child.exitCode === null && child.signalCode === null)
      .map((child) => once(child, "exit"));
    for (const pid of childrenOf(init)) kill(pid);
    await Promise.all(over);
  }

  changeHostKey(which: "new" | "former"): void {
    if (which === "former") return this.#use("key-1");
    this.#makeKey("key-2");
    this.#use("key-2");
  }

  async reboot(): Promise<void> {
    if (this.#options.namespace === undefined) throw new Error(`${this.name} cannot be rebooted`);
    await this.#powerOff();
    this.#newBootId();
    await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#powerOff();
    for (const pid of this.#processes()) kill(pid);
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** What carries the machine's home. */
  #processes(): number[] {
    return pidsWhere((pid) =>
      readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`HOME=${this.home}`),
    );
  }

  #publicKey(): string {
    return readFileSync(join(this.#folder, "host_key.pub"), "utf8");
  }

  #makeKey(name: string): void {
    const path = join(this.#folder, name);
    if (existsSync(path)) return;
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]);
  }

  #use(name: string): void {
    for (const end of ["", ".pub"]) {
      copyFileSync(join(this.#folder, `${name}${end}`), join(this.#folder, `host_key${end}`));
    }
  }

  #newBootId(): void {
    writeFileSync(join(this.#folder, "boot_id"), `${crypto.randomUUID()}\n`);
  }
}

/** The last resort, without waiting: kills every sshd of machines below `root`, and what carries their homes. */
export function endMachines(root: string): void {
  const theirs = pidsWhere((pid) => {
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    if (command.includes(`${root}/`) && command.includes("sshd")) return true;
    return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`\0HOME=${root}/`);
  });
  for (const pid of theirs) if (pid !== process.pid) kill(pid);
  rmSync(root, { recursive: true, force: true });
}

function pidsWhere(test: (pid: number) => boolean): number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return test(pid);
      } catch {
        return false;
      }
    });
}

function childrenOf(child: ChildProcess | number): number[] {
  const pid = typeof child === "number" ? child : (child.pid ?? 0);
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .split(" ")
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

const sshdBelow = (pid: number): number[] =>
  childrenOf(pid)
    .filter((child) => pidsWhere((one) => one === child && isSshd(one)).length > 0)
    .flatMap((child) => [child, ...sshdBelow(child)]);

const isSshd = (pid: number): boolean =>
  readFileSync(`/proc/${pid}/comm`, "utf8").startsWith("sshd");

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended in between.
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}
