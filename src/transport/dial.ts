import { connect } from "node:net";
import type { Duplex } from "node:stream";

import { OrchestratorError } from "../domain/errors.ts";
import type { Address, Hop } from "./transport.ts";

/** Opens the byte stream that SSH runs over. Rejects when it cannot, or when `signal` aborts. */
export type Dial = (address: Address, signal: AbortSignal) => Promise<Duplex>;

/** Dials TCP addresses. The socket never waits to fill a packet: that costs 40 ms a command. */
export const dialTcp: Dial = (address, signal) => {
  if (address.kind !== "tcp") {
    const message = `an address of kind ${address.kind} cannot be dialled over TCP`;
    return Promise.reject(new OrchestratorError("invalid_config", message));
  }
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address.host, port: address.port, noDelay: true });
    const abort = () => socket.destroy(new Error("dialling was given up"));
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", reject);
    socket.once("close", () => signal.removeEventListener("abort", abort));
    socket.once("connect", () => {
      signal.removeEventListener("abort", abort);
      socket.off("error", reject);
      resolve(socket);
    });
    if (signal.aborted) abort();
  });
};

/** `127.0.0.1:2222`, `kite-1:22` or `mini (10.0.0.5:22)`, for messages. */
export function describeAddress(address: Address): string {
  switch (address.kind) {
    case "tcp":
      return `${address.host}:${address.port}`;
    case "sprite-proxy":
      return `${address.name}:${address.port}`;
    case "ssh-host":
      return describeHop(address);
  }
}

export const describeHop = ({ name, host, port }: Pick<Hop, "name" | "host" | "port">): string =>
  name === host ? `${host}:${port}` : `${name} (${host}:${port})`;
