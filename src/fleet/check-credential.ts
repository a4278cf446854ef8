import { createHash } from "node:crypto";
import { z } from "zod";
import type { RepoConfig } from "../config/config.ts";
import { OrchestratorError } from "../domain/errors.ts";
import type { Clock } from "../platform/clock.ts";
import { requestJson } from "../platform/http-client.ts";
import type { Logger } from "../platform/logger.ts";
import type { Runtime } from "../runtimes/runtime.ts";

/** How long an accepted credential is not asked about again (ms). */
const ACCEPTED_FOR_MS = 10 * 60_000;
const TIMEOUT_MS = 5_000;

export type CredentialAnswer = "accepted" | "refused" | "undecided";

/**
 * Asks the agent's API whether it takes the credential, before a worker is allocated: a dead one is one clear error instead of an agent that stands
 * blocked. Only a plain 401 counts; a gateway that forbids
 * the question, or an API that cannot be asked, decides nothing.
 */
export class CredentialCheck {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #acceptedUntil = new Map<string, number>();

  constructor(effects: { clock: Clock; logger: Logger }) {
    this.#clock = effects.clock;
    this.#logger = effects.logger;
  }

  /** Throws `unauthorized` when it is refused; what was accepted lately is not asked about again. */
  async check(repo: RepoConfig, runtime: Runtime, secret: string): Promise<void> {
    const { auth } = repo;
    if (auth === undefined) return;
    const key = createHash("sha256")
      .update(JSON.stringify([runtime.id, auth.kind, auth.baseUrl, secret]))
      .digest("hex");
    if ((this.#acceptedUntil.get(key) ?? 0) > this.#clock.monotonic()) return;
    const answer = await this.ask(repo, runtime, secret);
    if (answer === "accepted") {
      this.#acceptedUntil.set(key, this.#clock.monotonic() + ACCEPTED_FOR_MS);
    }
    if (answer !== "refused") return;
    this.#acceptedUntil.delete(key);
    throw new OrchestratorError(
      "unauthorized",
      `the agent's API refuses the ${auth.kind} of this repo (401)`,
      {
        hint: `put a valid credential where ${auth.secret.startsWith("cmd:") ? "the command" : auth.secret} says, then dispatch again`,
        details: { status: 401 },
      },
    );
  }

  /** Asks now, whatever was answered before. */
  async ask(repo: RepoConfig, runtime: Runtime, secret: string): Promise<CredentialAnswer> {
    const { auth } = repo;
    const probe =
      auth === undefined ? null : runtime.credentialProbe(auth.kind, secret, auth.baseUrl ?? null);
    if (probe === null) return "undecided";
    const answer = await requestJson({
      method: "GET",
      ...probe,
      timeoutMs: TIMEOUT_MS,
      body: z.unknown(),
    });
    if (answer.kind === "ok") return "accepted";
    if (answer.kind === "status" && answer.status === 401) return "refused";
    this.#logger.info("credential.unchecked", {
      answer: answer.kind,
      status: "status" in answer ? answer.status : null,
    });
    return "undecided";
  }
}
