import { randomBytes, randomUUID } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";

/** Randomness, handed in so that tests can fix it. */
export interface Ids {
  /** `prefix-xxxxxxxxxxxx`: 60 random bits, matching `[a-z0-9][a-z0-9-]*`. */
  next(prefix: string): string;
  /** A UUID v4, for programs that insist on one. */
  uuid(): string;
  /** 128 random bits in hex: a fence token or a nonce. */
  token(): string;
  /** A number in [0, 1), for jitter. */
  fraction(): number;
}

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

export function randomIds(): Ids {
  return {
    next: (prefix) =>
      `${prefix}-${Array.from(octets(12), (byte) => ALPHABET.charAt(byte & 31)).join("")}`,
    uuid: () => randomUUID(),
    token: () => randomBytes(16).toString("hex"),
    fraction: () => randomBytes(4).readUInt32BE() / 2 ** 32,
  };
}

/** From the kernel, where it has a file for it: loading the module for it costs the start of a command 4 ms. */
function octets(count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  let file: number;
  try {
    file = openSync("/dev/urandom", "r");
  } catch {
    return randomBytes(count);
  }
  try {
    return readSync(file, bytes) === count ? bytes : randomBytes(count);
  } finally {
    closeSync(file);
  }
}
