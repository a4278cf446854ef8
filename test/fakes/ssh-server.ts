import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import ssh2, { type Connection, type ServerChannel } from "ssh2";

import { generateClientKeys } from "../support/client-keys.ts";

/**
 * `normal` runs the command with `sh -c`. The others misbehave: `mute` accepts it and never answers; `drop` runs it and
 * cuts the connection before the exit status; `no_status` closes the channel without one; `refuse_channel` and
 * `refuse_exec` say no; `overflow` sends without regard to the window until the connection ends.
 */
export type SshServerMode =
  | "normal"
  | "mute"
  | "drop"
  | "no_status"
  | "refuse_channel"
  | "refuse_exec"
  | "overflow";

export interface SshServer extends AsyncDisposable {
  readonly port: number;
  mode: SshServerMode;
  /** Time before a command is accepted. */
  delayMs: number;
  /** `SHA256:...` of the key that new connections are shown. */
  readonly hostKey: string;
  /** Logins that were tried, with any key. */
  readonly authAttempts: number;
  readonly connections: number;
  /** Commands that were received. */
  readonly commands: readonly string[];
  /** Most commands that ran at once so far. */
  readonly mostChannels: number;
  /** New connections are shown another host key, as after a reinstallation. */
  changeHostKey(): Promise<void>;
  close(): Promise<void>;
}

export interface SshServerOptions {
  readonly authorizedKey: string;
  /** `HOME` of the commands. */
  readonly home: string;
}

export async function startSshServer(options: SshServerOptions): Promise<SshServer> {
  const server = new FakeServer(options);
  await server.listen(0);
  return server;
}

class FakeServer implements SshServer {
  mode: SshServerMode = "normal";
  delayMs = 0;
  port = 0;
  hostKey = "";
  authAttempts = 0;
  mostChannels = 0;
  readonly commands: string[] = [];
  readonly #home: string;
  readonly #authorized: Buffer;
  readonly #sockets = new Set<Socket>();
  readonly #children = new Set<ReturnType<typeof spawn>>();
  #channels = 0;
  #server: ssh2.Server | undefined;

  constructor(options: SshServerOptions) {
    this.#home = options.home;
    this.#authorized = blobOf(options.authorizedKey);
  }

  get connections(): number {
    return this.#sockets.size;
  }

  async listen(port: number): Promise<void> {
    const key = generateClientKeys("host");
    const digest = createHash("sha256").update(blobOf(key.publicKey)).digest("base64");
    this.hostKey = `SHA256:${digest.replaceAll("=", "")}`;
    const server = new ssh2.Server({ hostKeys: [key.privateKey] }, (connection) =>
      this.#serve(connection),
    );
    this.#server = server;
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    this.port = typeof address === "object" && address !== null ? address.port : 0;
  }

  async changeHostKey(): Promise<void> {
    await this.#stop();
    await this.listen(this.port);
  }

  async close(): Promise<void> {
    await this.#stop();
    for (const child of this.#children)
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(connection: Connection): void {
    const socket = socketOf(connection);
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    connection.on("close", () => this.#sockets.delete(socket));
    connection.on("error", () => {});
    connection.on("authentication", (context) => {
      this.authAttempts += 1;
      const known = context.method === "publickey" && context.key.data.equals(this.#authorized);
      if (known) context.accept();
      else context.reject(["publickey"]);
    });
    connection.on("session", (accept, reject) => {
      if (this.mode === "refuse_channel") return reject();
      accept().on("exec", (acceptExec, rejectExec, info) => {
        this.commands.push(info.command);
        if (this.mode === "refuse_exec") return rejectExec();
        if (this.mode === "mute") return undefined;
        const run = () => this.#run(acceptExec(), info.command, socket);
        if (this.delayMs > 0) setTimeout(run, this.delayMs);
        else run();
        return undefined;
      });
      return undefined;
    });
  }

  #run(channel: ServerChannel, command: string, socket: Socket): void {
    channel.on("error", () => {});
    if (this.mode === "overflow") return overflow(channel, socket);
    this.#channels += 1;
    this.mostChannels = Math.max(this.mostChannels, this.#channels);
    const { mode } = this;
    const child = spawn("sh", ["-c", command], {
      cwd: "/",
      // A process group of its own, so that its children can be ended with it.
      detached: true,
      env: { HOME: this.#home, PATH: "/usr/local/bin:/usr/bin:/bin", LANG: "C.UTF-8" },
    });
    this.#children.add(child);
    child.stdin.on("error", () => {});
    child.stdout.pipe(channel, { end: false });
    child.stderr.pipe(channel.stderr, { end: false });
    channel.pipe(child.stdin);
    // Like sshd, a closed channel shows to the process at its next write.
    channel.on("close", () => child.stdout.destroy());
    child.on("close", (code, signal) => {
      this.#children.delete(child);
      this.#channels -= 1;
      if (mode === "drop") {
        socket.destroy();
        return;
      }
      if (mode === "normal" && code !== null) channel.exit(code);
      if (mode === "normal" && signal !== null) channel.exit(signal.replace(/^SIG/, ""));
      channel.end();
    });
  }
}

/** Sends as fast as the socket takes it, ignoring what the client's window allows. */
function overflow(channel: ServerChannel, socket: Socket): void {
  // No divisor of the window: ssh2 drops what comes while the window is exactly zero.
  const chunk = Buffer.alloc(30_000, "x");
  const outgoing = Reflect.get(channel, "outgoing") as { window: number };
  const pump = () => {
    // The server's own memory stays bounded: it waits for the socket, not for the client's window.
    for (let sent = 0; sent < 16 && socket.writableLength < 2 ** 20; sent += 1) {
      outgoing.window = 2 ** 31;
      channel.write(chunk);
    }
    if (!socket.destroyed) setImmediate(pump);
  };
  pump();
}

function socketOf(connection: Connection): Socket {
  return Reflect.get(connection, "_sock") as Socket;
}

function blobOf(publicKey: string): Buffer {
  return Buffer.from(publicKey.split(" ")[1] ?? "", "base64");
}
