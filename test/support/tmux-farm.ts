import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { until } from "./wait.ts";

/** Where one of them is: an address of its own on loopback, all behind one sshd. */
export interface FarmWorker {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly home: string;
  readonly tmuxDir: string;
}

/** Many workers as far as SSH and tmux go, each with a home and a tmux server of its own; one real sshd tells them apart by address. */
export interface TmuxFarm extends Disposable {
  readonly workers: readonly FarmWorker[];
  /** `SHA256:...` */
  readonly hostKey: string;
  tmux(worker: FarmWorker, ...args: readonly string[]): string;
}

const SSHD = "/usr/sbin/sshd";
const PATH = process.env["PATH"] ?? "/usr/bin:/bin";

export async function tmuxFarm(count: number, authorizedKey: string): Promise<TmuxFarm> {
  endAbandoned();
  const root = mkdtempSync(`/tmp/sf-${process.pid}-`);
  const port = await freePort();
  const { username } = userInfo();
  const workers = Array.from({ length: count }, (_, index): FarmWorker => {
    const place = join(root, String(index));
    const host = `127.50.${index >> 8}.${(index & 255) + 1}`;
    return { host, port, user: username, home: join(place, "h"), tmuxDir: place };
  });
  const tmux = (worker: FarmWorker, ...args: readonly string[]) =>
    execFileSync("tmux", ["-u", ...args], {
      env: { HOME: worker.home, TMUX_TMPDIR: worker.tmuxDir, PATH, LANG: "C.UTF-8" },
      cwd: worker.home,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  const key = join(root, "host_key");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key]);
  writeFileSync(join(root, "authorized_keys"), `${authorizedKey.trim()}\n`, { mode: 0o600 });
  writeFileSync(join(root, "sshd_config"), sshdConfig(root, port, username, workers));
  const sshd = spawn(SSHD, ["-D", "-f", join(root, "sshd_config"), "-E", join(root, "sshd.log")], {
    stdio: "ignore",
  });
  const dispose = () => {
    if (sshd.pid !== undefined && sshd.exitCode === null) process.kill(sshd.pid, "SIGTERM");
    for (const worker of workers) endServer(worker.tmuxDir);
    rmSync(root, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  };
  try {
    for (const worker of workers) openSession(worker, tmux);
    await until(() => isListening(port), { what: "the farm's sshd", timeoutMs: 20_000 });
    return { workers, hostKey: fingerprint(`${key}.pub`), tmux, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** By its socket: tmux takes the account's own server where it does not like a folder. */
function endServer(tmuxDir: string): void {
  const socket = join(tmuxDir, `tmux-${userInfo().uid}`, "default");
  if (existsSync(socket))
    spawnSync("tmux", ["-u", "-S", socket, "kill-server"], { stdio: "ignore" });
}

/** Ends the farms of processes that were killed: their folders carry a pid that is gone. */
function endAbandoned(): void {
  for (const name of readdirSync("/tmp")) {
    const pid = /^sf-([0-9]+)-/.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    const root = join("/tmp", name);
    for (const each of readdirSync(root)) endServer(join(root, each));
    try {
      const sshd = readFileSync(join(root, "sshd.pid"), "utf8").trim();
      const title = readFileSync(`/proc/${sshd}/cmdline`, "utf8");
      if (title.includes(root)) process.kill(Number(sshd), "SIGTERM");
    } catch {
      // It has ended already.
    }
    rmSync(root, { recursive: true, force: true });
  }
}

/** Windows as a prepared worker has them; nothing runs in them. */
function openSession(worker: FarmWorker, tmux: TmuxFarm["tmux"]): void {
  mkdirSync(worker.home, { recursive: true });
  const idle = "exec sleep 100000";
  const shell = ["-f", "/dev/null", "new-session", "-d", "-s", "kite-dev", "-n", "shell", idle];
  const agent = ["new-window", "-d", "-t", "=kite-dev:1", "-n", "agent:waiting", idle];
  const guard = ["new-window", "-d", "-t", "=kite-dev:2", "-n", "guard", idle];
  tmux(worker, ...shell, ";", ...agent, ";", ...guard);
}

/** Reachable from loopback alone, whatever address it listens on: there is one address for each worker. */
function sshdConfig(
  root: string,
  port: number,
  user: string,
  workers: readonly FarmWorker[],
): string {
  return `ListenAddress 0.0.0.0:${port}
AllowUsers ${user}@127.0.0.0/8
HostKey ${join(root, "host_key")}
PidFile ${join(root, "sshd.pid")}
AuthorizedKeysFile ${join(root, "authorized_keys")}
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
DisableForwarding yes
PermitUserRC no
PrintMotd no
PrintLastLog no
MaxStartups 1000
MaxSessions 100
${workers
  .map(
    ({ host, home, tmuxDir }) => `Match LocalAddress ${host}
  SetEnv HOME=${home} TMUX_TMPDIR=${tmuxDir} PATH=${PATH} LANG=C.UTF-8`,
  )
  .join("\n")}
`;
}

function fingerprint(path: string): string {
  const blob = readFileSync(path, "utf8").split(" ")[1] ?? "";
  const digest = createHash("sha256").update(Buffer.from(blob, "base64")).digest("base64");
  return `SHA256:${digest.replace(/=+$/, "")}`;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
