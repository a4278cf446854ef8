import { createHash } from "node:crypto";
import type { AlertConfig, Config } from "../../config/config.ts";
import { cleanText } from "../../domain/text.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Logger } from "../../platform/logger.ts";
import type { Service } from "../../platform/start-stop.ts";
import type { Store } from "../../store/store.ts";
import { INCIDENT_EVENTS, OpenIncidents, type Incident } from "./incidents.ts";
import { Outbox, type OutboxEffects } from "./outbox.ts";
import type { SenderEffects } from "./senders.ts";

export interface AlertsOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly logger: Logger;
  config(): Config;
  readonly senders: SenderEffects;
}

const CURSOR = "alerts:";
const FLOOR = "alerts.floor";
const READ_AT_ONCE = 500;
const LOOK_EVERY_MS = 1_000;
/** Places move on without a message, too: written at most so often (ms). */
const NOTE_EVERY_MS = 30_000;

/**
 * Tells operators of incidents, each once, in every configured way. Reads the event log from its own cursors: one per way, up to which all is told,
 * and a floor from which the standing incidents are folded again after a restart, silently. So a restart repeats at most what was under way, and
 * starts no storm. A way that is new hears of what begins after it was configured.
 */
export class Alerts implements Service {
  readonly #options: AlertsOptions;
  readonly #open = new OpenIncidents();
  readonly #outboxes = new Map<string, Outbox>();
  readonly #stopping = new AbortController();
  #done: Promise<void> | undefined;
  #place = 0;
  #notedAt = Number.NEGATIVE_INFINITY;
  #failing = false;

  constructor(options: AlertsOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#done ??= this.#keep(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
    await Promise.all([...this.#outboxes.values()].map((outbox) => outbox.stop()));
    if (this.#place > 0) await this.#note(true).catch(() => {});
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock, logger, store } = this.#options;
    while (!signal.aborted) {
      try {
        if (this.#options.config().alerts.length > 0 || this.#outboxes.size > 0) await this.#turn();
        this.#failing = false;
      } catch (error) {
        const message = cleanText(error instanceof Error ? error.message : String(error), 300);
        if (!this.#failing && !signal.aborted) logger.error("alerts.failed", { error: message });
        this.#failing = true;
      }
      const news = new AbortController();
      const either = AbortSignal.any([signal, news.signal]);
      const pause = clock.sleep(LOOK_EVERY_MS, either);
      // Before the first turn there is no place to wait at.
      const event = this.#place === 0 ? pause : store.waitForEvents(this.#place, either);
      await Promise.race([pause.catch(() => {}), event.catch(() => {})]);
      news.abort(new Error("looked"));
      await Promise.allSettled([pause, event]);
    }
  }

  async #turn(): Promise<void> {
    const { store } = this.#options;
    if (this.#place === 0)
      this.#place = ((await this.#cursor(FLOOR)) ?? (await store.lastSeq()) + 1) - 1;
    await this.#matchConfig();
    for (;;) {
      const upTo = await store.lastSeq();
      const filter = { kinds: INCIDENT_EVENTS };
      const events = await store.readEvents(this.#place, { limit: READ_AT_ONCE, filter });
      for (const event of events) {
        const begun = this.#open.fold(event);
        if (begun !== null) this.#tell(begun);
      }
      const isAll = events.length < READ_AT_ONCE;
      this.#place = isAll ? Math.max(this.#place, upTo) : (events.at(-1)?.seq ?? this.#place);
      if (isAll) break;
    }
    await this.#note(false);
  }

  #tell(incident: Incident): void {
    for (const outbox of this.#outboxes.values()) outbox.add(incident);
  }

  async #matchConfig(): Promise<void> {
    const { store, clock, ids, logger, senders } = this.#options;
    const wanted = new Map(this.#options.config().alerts.map((alert) => [idOf(alert), alert]));
    for (const [id, outbox] of this.#outboxes) {
      if (wanted.has(id)) continue;
      this.#outboxes.delete(id);
      await outbox.stop();
      await this.#forget(CURSOR + id);
    }
    for (const [id, alert] of wanted) {
      if (this.#outboxes.has(id)) continue;
      const known = await this.#cursor(CURSOR + id);
      // From now on, not from the beginning of time.
      const from = known ?? (await store.lastSeq());
      if (known === undefined) await this.#write([[CURSOR + id, from]]);
      const effects: OutboxEffects = {
        clock,
        ids,
        logger,
        senders,
        fleetId: store.fleetId,
        isCurrent: (incident) => this.#open.isCurrent(incident),
        told: () => this.#note(true),
      };
      this.#outboxes.set(id, new Outbox(alert, from, effects));
    }
  }

  /** Writes how far each way has come, and the floor below both what stands and what is not told yet. */
  async #note(now: boolean): Promise<void> {
    const monotonic = this.#options.clock.monotonic();
    if (!now && monotonic - this.#notedAt < NOTE_EVERY_MS) return;
    this.#notedAt = monotonic;
    const places = [...this.#outboxes].map(
      ([id, outbox]) => [CURSOR + id, outbox.toldUpTo(this.#place)] as const,
    );
    const oldest = this.#open.oldest() ?? this.#place + 1;
    const floor = Math.min(oldest, ...places.map(([, place]) => place + 1));
    await this.#write([...places, [FLOOR, floor]]);
  }

  async #cursor(name: string): Promise<number | undefined> {
    const row = await this.#options.store.db
      .selectFrom("cursors")
      .select("seq")
      .where("name", "=", name)
      .executeTakeFirst();
    return row?.seq;
  }

  async #write(places: ReadonlyArray<readonly [string, number]>): Promise<void> {
    await this.#options.store.mutate(
      async (tx) => {
        for (const [name, seq] of places) {
          await tx.db
            .insertInto("cursors")
            .values({ name, seq, updated_at: tx.now })
            .onConflict((conflict) =>
              conflict.column("name").doUpdateSet({ seq, updated_at: tx.now }),
            )
            .execute();
        }
      },
      { quiet: true },
    );
  }

  async #forget(name: string): Promise<void> {
    await this.#options.store.mutate(
      async (tx) => {
        await tx.db.deleteFrom("cursors").where("name", "=", name).execute();
      },
      { quiet: true },
    );
  }
}

/** Another address, command or choice of kinds is another way, with a place of its own. */
const idOf = (alert: AlertConfig): string =>
  createHash("sha256").update(JSON.stringify(alert)).digest("hex").slice(0, 16);
