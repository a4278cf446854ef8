import type { SshProviderConfig } from "../../config/providers.ts";
import { parseName } from "../../domain/names.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { CreateRequest, Provider, ProviderWorker } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import type { Book, Entry } from "./book.ts";
import { type Claim, LOOK, RELEASE } from "./claim.ts";
import type { HostLinks, ScriptResult } from "./links.ts";
import { type Look, Looks } from "./looks.ts";
import { isOf, lastLine, nameTaken, repoOf, seenIn, takeHost } from "./take.ts";

export interface SshOptions {
  config(): SshProviderConfig;
  readonly links: HostLinks;
  readonly book: Book;
  readonly clock: Clock;
  readonly ids: Ids;
}

const LOOK_TIMEOUT_MS = 8_000;
const RELEASE_TIMEOUT_MS = 60_000;

/**
 * Machines that the operator has already, reached over SSH. Each host of the list, a machine and an account, is one worker at a time, of one
 * pool. Creating one takes the first free host; destroying it gives the host back as it was found. The id names the host: so the store
 * keeps which number has which host.
 *
 * A host that cannot be reached is `unreachable`. A worker is gone when the operator took its host out of the list, or when the host
 * answers and bears no claim of that id any more: it was given back, wiped, or is another fleet's. What the connection to a host says
 * (refused, mute, not let in, another host key, a jump host) passes as the transport's own error.
 */
export function sshProvider(options: SshOptions): Provider {
  const { book, clock, ids, links } = options;
  const hosts = () => options.config().hosts;
  const looks = new Looks({
    clock,
    look: async (host) => {
      const result = await links.script(host, LOOK, [], { timeoutMs: LOOK_TIMEOUT_MS });
      const seen = seenIn(result);
      if (seen === undefined) throw mute(host, result);
      return seen;
    },
  });
  const lookAtAll = async () => {
    const entries = await book.read();
    return { entries, seen: await Promise.all(hosts().map(({ name }) => looks.at(name))) };
  };
  /** The host that the id names, while it is listed. */
  const hostOf = (id: string): string | undefined => {
    const host = /^ssh:([^:]+):claim-[0-9a-z]+$/.exec(id)?.[1];
    return hosts().find(({ name }) => name === host)?.name;
  };
  /** The claim of that id, seen on its host now. */
  const claimOf = async (id: string): Promise<{ host: string; claim: Claim }> => {
    const host = hostOf(id);
    if (host === undefined) throw gone(id);
    const look = await looks.at(host);
    if (look.kind === "unreachable") throw look.error;
    if (isUnreadable(look)) throw unreadable(host);
    if (look.kind !== "claimed" || look.claim.id !== id) throw gone(id);
    return { host, claim: look.claim };
  };

  return {
    id: "ssh",
    capabilities: {
      sleeps: false,
      checkpoints: false,
      awakeHolds: false,
      needsSshBootstrap: false,
      sharesMachine: true,
      attachDirect: false,
    },

    async list(prefix) {
      const { entries, seen } = await lookAtAll();
      return seen
        .flatMap((look) => workersOf(look, entries))
        .filter(({ name }) => name.startsWith(prefix));
    },

    async get(id) {
      const host = hostOf(id);
      if (host === undefined) return null;
      const look = await looks.at(host);
      if (look.kind === "claimed" && look.claim.id === id) return workerFrom(look.claim);
      if (look.kind !== "unreachable" && !isUnreadable(look)) return null;
      const entry = (await book.read()).find((one) => one.id === id);
      const { name = host, fleetId = null, nonce = null, createdAt = null } = entry ?? {};
      return { id, name, fleetId, nonce, createdAt, state: "unreachable" };
    },

    async create(request) {
      checkRequest(request);
      if (hosts().length === 0) throw noHosts();
      const { entries, seen } = await lookAtAll();
      const named = seen
        .flatMap((look) => workersOf(look, entries))
        .find(({ name }) => name === request.name);
      if (named !== undefined && !isOf(named, request)) throw nameTaken(request.name);
      const claim = await takeHost({ hosts, book, links, clock, ids }, request, seen);
      looks.forget(hostOf(claim.id) ?? "");
      return workerFrom(claim);
    },

    async destroy(id) {
      const host = hostOf(id);
      if (host !== undefined) {
        looks.forget(host);
        const look = await looks.at(host);
        if (look.kind === "unreachable") throw look.error;
        if (isUnreadable(look)) throw unreadable(host);
        if (look.kind === "claimed" && look.claim.id === id) {
          await release(links, host, look.claim);
          looks.forget(host);
        }
      }
      await book.drop(id);
    },

    async dial(id) {
      const { host } = await claimOf(id);
      return { address: await links.address(host), hostKey: null };
    },

    async capacity() {
      if (hosts().length === 0) throw noHosts();
      const { entries, seen } = await lookAtAll();
      const used = new Set(entries.map(({ host }) => host));
      return seen.filter((look) => look.kind === "free" && !used.has(look.host)).length;
    },

    async attachArgv(id, session) {
      const { host, claim } = await claimOf(id);
      return links.attach(host, session, claim.tmuxDir);
    },

    async consoleArgv(id) {
      const { host, claim } = await claimOf(id);
      return links.attach(host, null, claim.tmuxDir);
    },

    async trustHostKey(id, fingerprint) {
      const host = hostOf(id);
      if (host === undefined) throw gone(id);
      const shownBy = await links.trust(host, fingerprint);
      looks.forget(host);
      return shownBy;
    },
  };
}

/** Gives a host back. The id is checked on the host, right before anything is removed. */
async function release(links: HostLinks, host: string, claim: Claim): Promise<void> {
  const repo = repoOf(claim.name);
  const args = [claim.id, repo, `${repo}-dev`, links.keyBlob];
  const result = await links.script(host, RELEASE, args, { timeoutMs: RELEASE_TIMEOUT_MS });
  const seen = seenIn(result);
  if (seen !== undefined && !(seen.kind === "claimed" && seen.claim.id === claim.id)) return;
  const message = `host ${host} was not given back whole: ${lastLine(result)}`;
  throw new ProviderError("unavailable", message, {
    hint: "look at what is left there; the worker can be destroyed again",
  });
}

/** A host that answers is known by its claim; one that does not, by our own record. */
function workersOf(look: Look, entries: readonly Entry[]): ProviderWorker[] {
  switch (look.kind) {
    case "free":
    case "foreign":
      return [];
    case "claimed":
      return [workerFrom(look.claim)];
    case "unreachable":
      return entries
        .filter(({ host, takenAt }) => host === look.host && takenAt !== null)
        .map((entry) => ({ ...workerFrom(entry), state: "unreachable" }));
  }
}

const workerFrom = ({
  id,
  name,
  fleetId,
  nonce,
  createdAt,
}: Omit<Claim, "tmuxDir">): ProviderWorker => ({
  id,
  name,
  fleetId,
  nonce,
  createdAt,
  state: "running",
});

function checkRequest({ name, fleetId, nonce }: CreateRequest): void {
  parseName(name, "worker name");
  for (const label of [fleetId, nonce]) {
    if (/^[\x21-\x7e]{1,200}$/.test(label)) continue;
    throw new ProviderError("rejected", `worker ${name} needs a fleet id and a nonce of one word`);
  }
}

/** Somebody's, but nobody can say whose: no evidence for anything. */
const isUnreadable = (look: Look): boolean => look.kind === "foreign" && look.owner === null;

const unreadable = (host: string) =>
  new ProviderError("unavailable", `the claim on host ${host} cannot be read`, {
    hint: "look at ~/.orchestrator/claim there",
  });

const noHosts = () =>
  new ProviderError("rejected", "the configuration lists no host for the provider ssh", {
    hint: "name one below providers.ssh.hosts",
  });

const gone = (id: string) => new ProviderError("gone", `there is no worker ${id} on its host`);

const mute = (host: string, result: ScriptResult) =>
  new ProviderError("unavailable", `host ${host} does not say whose it is: ${lastLine(result)}`);
