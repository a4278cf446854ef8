import { type Server, type Socket, connect, createServer } from "node:net";

/** A TCP proxy on loopback that misbehaves when told to. Every setting may be changed while connections are open. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Port that new connections are forwarded to. */
  targetPort: number;
  /** Held back in each direction (half of the added round trip); order is kept. */
  delayMs: number;
  /** Bytes are read and dropped in these directions: a half-open link. */
  swallow: "none" | "up" | "down" | "both";
  /** Bytes to the client are changed on the way. */
  garble: boolean;
  /** Nothing is read any more, so that senders fill their buffers. */
  stalled: boolean;
  /** New connections are accepted and closed at once. */
  hangUp: boolean;
  /** Connections accepted so far. */
  readonly accepted: number;
  readonly open: number;
  /** Bytes forwarded so far, client to target. */
  readonly bytesUp: number;
  /** Bytes forwarded so far, target to client. */
  readonly bytesDown: number;
  /** Ends all connections with FIN. */
  cut(): void;
  /** Ends all connections with RST. */
  reset(): void;
  close(): Promise<void>;
}

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const proxy = new Proxy(targetPort);
  await proxy.listen();
  return proxy;
}

type Direction = "up" | "down";

class Proxy implements TcpProxy {
  targetPort: number;
  delayMs = 0;
  swallow: "none" | "up" | "down" | "both" = "none";
  garble = false;
  hangUp = false;
  accepted = 0;
  bytesUp = 0;
  bytesDown = 0;
  #stalled = false;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();

  constructor(targetPort: number) {
    this.targetPort = targetPort;
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (client) =>
      this.#accept(client),
    );
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  get open(): number {
    return this.#pairs.size;
  }

  get stalled(): boolean {
    return this.#stalled;
  }

  set stalled(stalled: boolean) {
    this.#stalled = stalled;
    for (const socket of [...this.#pairs].flat()) {
      if (stalled) socket.pause();
      else socket.resume();
    }
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, "127.0.0.1", resolve);
    });
  }

  cut(): void {
    for (const socket of [...this.#pairs].flat()) socket.destroy();
  }

  reset(): void {
    for (const socket of [...this.#pairs].flat()) socket.resetAndDestroy();
  }

  close(): Promise<void> {
    this.cut();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    client.on("error", () => {});
    if (this.hangUp) {
      client.destroy();
      return;
    }
    const target = connect({
      host: "127.0.0.1",
      port: this.targetPort,
      noDelay: true,
      allowHalfOpen: true,
    });
    const pair = [client, target] as const;
    this.#pairs.add(pair);
    this.#forward(client, target, "up");
    this.#forward(target, client, "down");
    const gone = () => {
      this.#pairs.delete(pair);
      client.destroy();
      target.destroy();
    };
    client.on("close", gone);
    target.on("close", gone);
    if (this.#stalled) for (const socket of pair) socket.pause();
  }

  #forward(from: Socket, to: Socket, direction: Direction): void {
    let waiting = 0;
    let last = 0;
    /** Runs after the delay, never before what was scheduled earlier. */
    const later = (act: () => void) => {
      if (this.delayMs === 0 && waiting === 0) return act();
      waiting += 1;
      last = Math.max(last, performance.now() + this.delayMs);
      setTimeout(() => {
        waiting -= 1;
        act();
      }, last - performance.now());
    };
    from.on("error", () => {});
    from.on("data", (chunk) => {
      if (this.swallow === "both" || this.swallow === direction) return;
      if (direction === "up") this.bytesUp += chunk.length;
      else this.bytesDown += chunk.length;
      if (this.garble && direction === "down") chunk.forEach((byte, at) => (chunk[at] = byte ^ 1));
      later(() => {
        if (to.destroyed || to.write(chunk)) return;
        from.pause();
        to.once("drain", () => {
          if (!this.#stalled) from.resume();
        });
      });
    });
    from.on("end", () => {
      if (this.swallow === "both" || this.swallow === direction) return;
      later(() => to.end());
    });
  }
}
