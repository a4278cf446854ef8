import { Duplex } from "node:stream";
import type { ClientChannel } from "ssh2";

/**
 * A forwarded channel as a socket for the next connection. ssh2's channel waits for the other side's word before it closes, and so never does
 * when the connection that carries it is dead; this one is destroyed at once. Back-pressure goes through in both directions.
 */
export class HopSocket extends Duplex {
  readonly #channel: ClientChannel;

  constructor(channel: ClientChannel) {
    super({ allowHalfOpen: false });
    this.#channel = channel;
    channel.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on("end", () => this.push(null));
    channel.on("close", () => this.destroy());
    channel.on("error", (error: Error) => this.destroy(error));
  }

  /** Where a TCP socket is asked not to wait; the first hop's never does. */
  setNoDelay(): this {
    return this;
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#channel.writable) this.#channel.write(chunk, done);
    else done(new Error("the forwarded channel is closed"));
  }

  override _final(done: () => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#channel.close();
    done(error);
  }
}
