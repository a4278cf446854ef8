import { OrchestratorError } from "../../domain/errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Seen } from "./claim.ts";

/** One look at a host; `at` is when it began (wall ms). */
export type Look = { readonly host: string; readonly at: number } & (
  | Seen
  | { readonly kind: "unreachable"; readonly error: OrchestratorError }
);

/** A host that did not answer may take this long to answer now, before it still counts as unreachable (ms). */
const PATIENCE_MS = 250;

/**
 * Looks at hosts. Those who ask while a look is under way share it. A host that did not answer the last time holds nobody up: it is looked
 * at again, but soon counts as what it was.
 */
export class Looks {
  readonly #clock: Clock;
  readonly #look: (host: string) => Promise<Seen>;
  readonly #underWay = new Map<string, Promise<Look>>();
  readonly #failed = new Map<string, Look>();

  constructor(options: { clock: Clock; look: (host: string) => Promise<Seen> }) {
    this.#clock = options.clock;
    this.#look = options.look;
  }

  async at(host: string): Promise<Look> {
    const look = this.#underWay.get(host) ?? this.#begin(host);
    const former = this.#failed.get(host);
    if (former === undefined) return look;
    const waited = new AbortController();
    const patience = this.#clock.sleep(PATIENCE_MS, waited.signal).then(
      () => former,
      () => former,
    );
    const first = await Promise.race([look, patience]);
    waited.abort();
    return first;
  }

  /** The next look at the host waits for its answer, and is not one that began before now. */
  forget(host: string): void {
    this.#failed.delete(host);
    this.#underWay.delete(host);
  }

  #begin(host: string): Promise<Look> {
    const at = this.#clock.now();
    const look = this.#look(host).then(
      (seen): Look => ({ host, at, ...seen }),
      (error: unknown): Look => {
        if (error instanceof OrchestratorError) return { host, at, kind: "unreachable", error };
        throw error;
      },
    );
    const settled = look.then((seen) => {
      if (this.#underWay.get(host) !== settled) return seen;
      this.#underWay.delete(host);
      if (seen.kind === "unreachable") this.#failed.set(host, seen);
      else this.#failed.delete(host);
      return seen;
    });
    this.#underWay.set(host, settled);
    return settled;
  }
}
