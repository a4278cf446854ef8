import type { SshHostConfig } from "../../config/providers.ts";
import { OrchestratorError } from "../../domain/errors.ts";
import { cleanText } from "../../domain/text.ts";
import { splitWorkerName } from "../../domain/names.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { CreateRequest } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import type { Book, Entry } from "./book.ts";
import { CANNOT_SERVE, type Claim, type Seen, TAKE, parseSeen } from "./claim.ts";
import type { HostLinks, ScriptResult } from "./links.ts";
import type { Look } from "./looks.ts";

export interface TakeContext {
  hosts(): readonly SshHostConfig[];
  readonly book: Book;
  readonly links: HostLinks;
  readonly clock: Clock;
  readonly ids: Ids;
}

const TIMEOUT_MS = 20_000;

/** Chooses a host, writes that down, asks the host for it; and the next one where a host certainly was not taken. */
export async function takeHost(
  context: TakeContext,
  request: CreateRequest,
  seen: readonly Look[],
): Promise<Claim> {
  const refused: string[] = [];
  const tried = new Set<string>();
  for (;;) {
    const chosen = await choose(context, request, seen, tried);
    if (chosen === undefined) throw noHost(seen, tried, refused);
    tried.add(chosen.entry.host);
    const answer = await ask(context, chosen.entry, chosen.isNew);
    if (typeof answer !== "string") {
      await context.book.confirm(chosen.entry.id);
      return answer;
    }
    await context.book.drop(chosen.entry.id);
    refused.push(answer);
  }
}

/**
 * The host that this very request chose before, else the first that is free. Forgets hosts that are not listed any more, and those that were
 * found without a claim after theirs was there for certain.
 */
function choose(
  { hosts, book, clock, ids }: TakeContext,
  request: CreateRequest,
  seen: readonly Look[],
  tried: ReadonlySet<string>,
): Promise<{ entry: Entry; isNew: boolean } | undefined> {
  const { name, fleetId, nonce } = request;
  const isFree = (look: Look) =>
    // What a fleet left when its claim was taken away by hand is its own to take again.
    look.kind === "free" || (look.kind === "foreign" && look.owner === fleetId);
  const listed = new Set(hosts().map((host) => host.name));
  const isFreeAgain = ({ host, takenAt }: Entry) =>
    takenAt !== null &&
    seen.some((look) => look.host === host && isFree(look) && look.at > takenAt);
  type Choice = { entry: Entry; isNew: boolean } | undefined;
  return book.change<Choice>((all) => {
    const entries = all.filter((entry) => listed.has(entry.host) && !isFreeAgain(entry));
    const own = entries.find((entry) => entry.name === name);
    if (own !== undefined && !isOf(own, request)) throw nameTaken(name);
    if (own !== undefined) return { entries, answer: { entry: own, isNew: false } };
    const used = new Set(entries.map((entry) => entry.host));
    const look = seen.find(
      ({ host, ...rest }) => !used.has(host) && !tried.has(host) && isFree({ host, ...rest }),
    );
    if (look === undefined) return { entries, answer: undefined };
    const id = `ssh:${look.host}:${ids.next("claim")}`;
    const createdAt = clock.now();
    const entry = { host: look.host, id, name, fleetId, nonce, createdAt, takenAt: null };
    return { entries: [...entries, entry], answer: { entry, isNew: true } };
  });
}

/** The host's claim when it is this entry's; else why the host certainly is not taken by it. */
async function ask(
  { hosts, links }: TakeContext,
  entry: Entry,
  isNew: boolean,
): Promise<Claim | string> {
  const { host, id, name, fleetId, nonce, createdAt } = entry;
  const shared = hosts().find((one) => one.name === host)?.shared !== false;
  const labels = [id, name, fleetId, nonce, String(createdAt), shared ? "yes" : "no"];
  let result: ScriptResult;
  try {
    result = await links.script(host, TAKE, [...labels, repoOf(name), links.keyBlob], {
      timeoutMs: TIMEOUT_MS,
    });
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
    // An earlier request of ours may have come through, whatever became of this one.
    if (isNew && error.details["outcome"] !== "unknown") return error.message;
    throw unknown(entry, error.message, error);
  }
  if (result.code === CANNOT_SERVE) return `host ${host} cannot be used: ${lastLine(result)}`;
  const seen = seenIn(result);
  if (seen === undefined) throw unknown(entry, lastLine(result));
  if (seen.kind === "claimed" && seen.claim.id === id) return seen.claim;
  return `host ${host} ${describe(seen)}`;
}

export const repoOf = (worker: string): string => splitWorkerName(worker)?.repo ?? worker;

export const isOf = (
  found: { readonly fleetId: string | null; readonly nonce: string | null },
  request: CreateRequest,
): boolean => found.fleetId === request.fleetId && found.nonce === request.nonce;

export const nameTaken = (name: string): ProviderError =>
  new ProviderError("name_taken", `a worker named ${name} exists already`);

/** What a script of claim.ts said of the host; undefined when it failed. */
export const seenIn = (result: ScriptResult): Seen | undefined =>
  result.code === 0 ? parseSeen(result.stdout) : undefined;

export const lastLine = ({ code, stderr }: ScriptResult): string => {
  const line = cleanText(stderr.trimEnd().split("\n").at(-1) ?? "", 300);
  return line === "" ? `exit code ${code ?? "none"}` : line;
};

export function describe(look: Seen | Look): string {
  switch (look.kind) {
    case "free":
      return "is free";
    case "claimed":
      return `is ${look.claim.name} of fleet ${look.claim.fleetId}`;
    case "foreign":
      return look.owner === null
        ? "has a claim that cannot be read"
        : `belongs to fleet ${cleanText(look.owner, 60)}`;
    case "unreachable":
      return "cannot be reached";
  }
}

function noHost(
  seen: readonly Look[],
  tried: ReadonlySet<string>,
  refused: readonly string[],
): ProviderError {
  const others = seen
    .filter(({ host }) => !tried.has(host))
    .map((look) => `host ${look.host} ${describe(look)}`);
  const why = [...refused, ...others].slice(0, 5).join("; ");
  return new ProviderError("no_capacity", `no host can be taken: ${why}`);
}

const unknown = ({ host, name }: Entry, why: string, cause?: unknown): ProviderError =>
  new ProviderError(
    "unknown_outcome",
    `whether host ${host} was taken as ${name} is not known: ${why}`,
    { cause },
  );
