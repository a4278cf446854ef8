import type { AlertConfig } from "../../config/config.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Logger } from "../../platform/logger.ts";
import { Nudge } from "../../platform/nudge.ts";
import type { Incident } from "./incidents.ts";
import { messageOf, nameOf, send, type SenderEffects, type Sent } from "./senders.ts";

export interface OutboxEffects {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly logger: Logger;
  readonly senders: SenderEffects;
  readonly fleetId: string;
  isCurrent(incident: Incident): boolean;
  /** Something was told, or given up: its place moved. */
  told(): Promise<void>;
}

const TRIES = 5;
const FIRST_MS = 1_000;
const MAX_MS = 30_000;

/** What one way has still to tell, in order; one message at a time. */
export class Outbox {
  readonly #alert: AlertConfig;
  readonly #from: number;
  readonly #effects: OutboxEffects;
  readonly #waiting: Incident[] = [];
  readonly #nudge = new Nudge();
  readonly #stopping = new AbortController();
  readonly #done: Promise<void>;
  /** Said once, until it works again. */
  #isFailing = false;

  constructor(alert: AlertConfig, from: number, effects: OutboxEffects) {
    this.#alert = alert;
    this.#from = from;
    this.#effects = effects;
    this.#done = this.#work(this.#stopping.signal);
  }

  /** What is old news by the cursor, or not asked for, is left out. */
  add(incident: Incident): void {
    const { kinds } = this.#alert;
    if (incident.seq <= this.#from || (kinds !== undefined && !kinds.includes(incident.kind)))
      return;
    this.#waiting.push(incident);
    this.#nudge.nudge();
  }

  /** All before and at this place was told; `read` is how far the log was read. */
  toldUpTo(read: number): number {
    if (this.#waiting.length === 0) return Math.max(this.#from, read);
    return Math.min(...this.#waiting.map(({ seq }) => seq)) - 1;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("stopping"));
    await this.#done;
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#effects;
    while (!signal.aborted) {
      const now = clock.now();
      const due = this.#waiting.find(({ at, holdMs }) => holdMs === 0 || at + holdMs <= now);
      if (due === undefined) {
        await this.#pause(now, signal);
        continue;
      }
      try {
        if (this.#effects.isCurrent(due)) await this.#deliver(due, signal);
        this.#waiting.splice(this.#waiting.indexOf(due), 1);
        await this.#effects.told();
      } catch (error) {
        if (signal.aborted) return;
        const message = error instanceof Error ? error.message : String(error);
        logger.error("alert.place_not_kept", { error: message.slice(0, 300) });
      }
    }
  }

  /** Until the next one is due, or something comes. */
  async #pause(now: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#effects;
    const next = Math.min(...this.#waiting.map(({ at, holdMs }) => at + holdMs - now));
    const stop = new AbortController();
    const timer =
      next === Number.POSITIVE_INFINITY
        ? new Promise<void>(() => {})
        : clock.sleep(Math.max(1, next), AbortSignal.any([signal, stop.signal]));
    await this.#nudge.wait(timer, signal);
    stop.abort(new Error("woken"));
  }

  async #deliver(incident: Incident, signal: AbortSignal): Promise<void> {
    const { logger, clock, ids, fleetId, senders } = this.#effects;
    const fields = { incident: incident.key, kind: incident.kind, way: nameOf(this.#alert) };
    for (let tries = 1; ; tries += 1) {
      const sent = await send(this.#alert, messageOf(incident, fleetId), senders, signal);
      if (sent.kind === "sent") {
        if (this.#isFailing) logger.info("alert.works_again", { way: fields.way });
        this.#isFailing = false;
        return logger.info("alert.sent", fields);
      }
      if (!sent.again || tries === TRIES) {
        if (!this.#isFailing) logger.warn("alert.not_sent", { ...fields, tries, why: sent.why });
        this.#isFailing = true;
        return undefined;
      }
      await clock.sleep(pauseMs(sent, tries, ids.fraction()), signal);
    }
  }
}

function pauseMs(sent: Extract<Sent, { kind: "failed" }>, tries: number, fraction: number): number {
  if (sent.afterMs !== undefined) return Math.min(MAX_MS, sent.afterMs);
  const ceiling = Math.min(MAX_MS, FIRST_MS * 2 ** (tries - 1));
  return Math.ceil(ceiling * (0.5 + fraction / 2));
}
