import { randomBytes, randomUUID } from "node:crypto";

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
      `${prefix}-${Array.from(randomBytes(12), (byte) => ALPHABET.charAt(byte & 31)).join("")}`,
    uuid: () => randomUUID(),
    token: () => randomBytes(16).toString("hex"),
    fraction: () => randomBytes(4).readUInt32BE() / 2 ** 32,
  };
}
