import { createHmac } from "node:crypto";

import { fingerprint } from "./host-key.ts";

/*
 * OpenSSH's known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), as text. Lines that are not understood, and those of authorities, are
 * passed over; a revoked key is never a known one.
 */

export interface KnownKey {
  readonly type: string;
  readonly blob: Buffer;
  readonly fingerprint: string;
}

/** `host`, or `[host]:port` for another port than 22: how known_hosts calls a server. */
export const knownName = (host: string, port: number): string =>
  port === 22 ? host : `[${host}]:${port}`;

/** The keys that the text gives to a name. */
export function knownKeys(text: string, name: string): KnownKey[] {
  const found = new Map<string, KnownKey>();
  const revoked = new Set<string>();
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const marker = fields[0]?.startsWith("@") === true ? fields.shift() : undefined;
    const [names, type, encoded] = fields;
    if (names === undefined || names.startsWith("#") || type === undefined) continue;
    if (encoded === undefined || !isFor(names, name)) continue;
    const key = parseKnownKey(`${type} ${encoded}`);
    if (key === undefined) continue;
    if (marker === "@revoked") revoked.add(key.fingerprint);
    else if (marker === undefined) found.set(key.fingerprint, key);
  }
  return [...found.values()].filter((key) => !revoked.has(key.fingerprint));
}

/** A `ssh-ed25519 AAAA...` text; undefined when it is none. */
export function parseKnownKey(text: string): KnownKey | undefined {
  const [type, encoded] = text.trim().split(/\s+/);
  if (type === undefined || encoded === undefined) return undefined;
  const blob = Buffer.from(encoded, "base64");
  return blobType(blob) === type ? { type, blob, fingerprint: fingerprint(blob) } : undefined;
}

/** The line that gives a key to a name. */
export const knownLine = (name: string, blob: Uint8Array): string =>
  `${name} ${blobType(blob) ?? "unknown"} ${Buffer.from(blob).toString("base64")}`;

function blobType(blob: Uint8Array): string | undefined {
  const bytes = Buffer.from(blob);
  if (bytes.length < 4) return undefined;
  const length = bytes.readUInt32BE(0);
  if (length === 0 || 4 + length > bytes.length) return undefined;
  return bytes.toString("latin1", 4, 4 + length);
}

/** Patterns with commas between them, or one name hashed with a salt: `|1|salt|hash`. */
function isFor(names: string, name: string): boolean {
  if (names.startsWith("|1|")) {
    const [, , salt, hash] = names.split("|");
    if (salt === undefined || hash === undefined) return false;
    return createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest("base64") === hash;
  }
  const patterns = names.split(",");
  if (patterns.some((one) => one.startsWith("!") && matches(one.slice(1), name))) return false;
  return patterns.some((one) => !one.startsWith("!") && matches(one, name));
}

function matches(pattern: string, name: string): boolean {
  const source = pattern
    .toLowerCase()
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`).test(name.toLowerCase());
}
