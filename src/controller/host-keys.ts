import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";

import type { WayHop } from "../providers/ssh/way.ts";
import { fingerprint } from "../transport/host-key.ts";
import {
  type KnownKey,
  knownKeys,
  knownLine,
  knownName,
  parseKnownKey,
} from "../transport/known-hosts.ts";

export interface HostKeysOptions {
  /** Our own known_hosts; also read by OpenSSH when an operator attaches. */
  readonly path: string;
  /** The operator's, or null. */
  operatorPath(): string | null;
}

/** The keys that a hop may show. */
export interface Pinned {
  readonly fingerprints: readonly string[];
  readonly types: readonly string[];
  /** The configuration says so: only it can change that. */
  readonly byConfig: boolean;
}

/**
 * Which keys the SSH servers on the way to hosts may show: the one in the configuration; else the ones pinned at the first contact; at the
 * first contact the operator's known_hosts, and where that is silent, what is shown. Pins stay until a person replaces them.
 * Writes are synchronous: the key is on disk before it is trusted.
 */
export class HostKeys {
  readonly #options: HostKeysOptions;

  constructor(options: HostKeysOptions) {
    this.#options = options;
  }

  pinnedFor(hop: WayHop): Pinned {
    const name = knownName(hop.host, hop.port);
    const own = knownKeys(readIfThere(this.#options.path), name);
    if (hop.hostKey !== null) {
      const whole = parseKnownKey(hop.hostKey);
      const only = whole?.fingerprint ?? hop.hostKey;
      const types = [whole, ...own.filter((key) => key.fingerprint === only)].flatMap(
        (key) => key?.type ?? [],
      );
      return { fingerprints: [only], types, byConfig: true };
    }
    if (own.length > 0) return pinned(own);
    const operatorPath = this.#options.operatorPath();
    const known = operatorPath === null ? [] : knownKeys(readIfThere(operatorPath), name);
    for (const key of known) this.#append(hop, key.blob);
    return pinned(known);
  }

  /** Pins what is shown at the first contact. False when something was pinned meanwhile, and it is another key. */
  learn(hop: WayHop, blob: Uint8Array): boolean {
    const { fingerprints } = this.pinnedFor(hop);
    if (fingerprints.length > 0) return fingerprints.includes(fingerprint(blob));
    this.#append(hop, blob);
    return true;
  }

  /** Keeps the key itself where only its fingerprint was known: OpenSSH needs it. */
  keep(hop: WayHop, blob: Uint8Array): void {
    const known = knownKeys(readIfThere(this.#options.path), knownName(hop.host, hop.port));
    if (!known.some((key) => key.fingerprint === fingerprint(blob))) this.replace(hop, blob);
  }

  /** From now on only this key. */
  replace(hop: WayHop, blob: Uint8Array): void {
    const name = knownName(hop.host, hop.port);
    const { path } = this.#options;
    const others = readIfThere(path)
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith(`${name} `));
    const temporary = `${path}.new`;
    writeFileSync(temporary, `${[...others, knownLine(name, blob)].join("\n")}\n`, {
      mode: 0o600,
      flush: true,
    });
    renameSync(temporary, path);
  }

  #append(hop: WayHop, blob: Uint8Array): void {
    const line = knownLine(knownName(hop.host, hop.port), blob);
    appendFileSync(this.#options.path, `${line}\n`, { mode: 0o600, flush: true });
  }
}

const pinned = (keys: readonly KnownKey[]): Pinned => ({
  fingerprints: keys.map((key) => key.fingerprint),
  types: keys.map((key) => key.type),
  byConfig: false,
});

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  }
}
