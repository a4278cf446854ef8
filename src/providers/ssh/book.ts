import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

import { withFileLock } from "../../config/file-lock.ts";
import { writeFileAtomically } from "../../config/write-file.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import { ProviderError } from "../provider-error.ts";

/** Which host was chosen for which worker, written before the host is asked. */
export interface Entry {
  readonly host: string;
  readonly id: string;
  readonly name: string;
  readonly fleetId: string;
  readonly nonce: string;
  readonly createdAt: number;
  /** When the host had taken the claim for certain; null: it was asked, and the answer is not known. */
  readonly takenAt: number | null;
}

const bookSchema = z.array(
  z.object({
    host: z.string(),
    id: z.string(),
    name: z.string(),
    fleetId: z.string(),
    nonce: z.string(),
    createdAt: z.number(),
    takenAt: z.number().nullable(),
  }),
);

/**
 * The fleet's own record of its hosts, in one file. With it a create that was cut off goes on at the host that it had chosen, and a host that
 * cannot be reached still has a name. The host's own claim decides whose it is.
 */
export class Book {
  readonly #folder: string;
  readonly #effects: { clock: Clock; ids: Ids };

  constructor(folder: string, effects: { clock: Clock; ids: Ids }) {
    this.#folder = folder;
    this.#effects = effects;
  }

  async read(): Promise<readonly Entry[]> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return [];
      throw unreadable(this.#path, cause);
    }
    try {
      return bookSchema.parse(JSON.parse(text));
    } catch (cause) {
      throw unreadable(this.#path, cause);
    }
  }

  /** Replaces the entries by what `change` makes of them, as the only writer; gives what it answers. */
  async change<T>(
    change: (entries: readonly Entry[]) => { entries: readonly Entry[]; answer: T },
  ): Promise<T> {
    return withFileLock(this.#path, this.#effects, async () => {
      const before = await this.read();
      const { entries, answer } = change(before);
      if (entries !== before) {
        const text = `${JSON.stringify(entries, null, 2)}\n`;
        await writeFileAtomically(this.#path, text, this.#effects.ids.token());
      }
      return answer;
    });
  }

  drop(id: string): Promise<void> {
    return this.change((entries) => ({
      entries: entries.filter((entry) => entry.id !== id),
      answer: undefined,
    }));
  }

  confirm(id: string): Promise<void> {
    const takenAt = this.#effects.clock.now();
    return this.change((entries) => ({
      entries: entries.map((entry) => (entry.id === id ? { ...entry, takenAt } : entry)),
      answer: undefined,
    }));
  }

  get #path(): string {
    return join(this.#folder, "hosts.json");
  }
}

const unreadable = (path: string, cause: unknown) =>
  new ProviderError("unavailable", `the record of the hosts in use ${path} cannot be read`, {
    cause,
    hint: "put it back from a backup; while it is missing, hosts that cannot be reached have no name",
  });
