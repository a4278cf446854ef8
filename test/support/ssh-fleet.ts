import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { configSchema } from "../../src/config/config.ts";
import type { SshProviderConfig } from "../../src/config/providers.ts";
import { SshLinks } from "../../src/controller/ssh-links.ts";
import { randomIds } from "../../src/platform/ids.ts";
import { systemClock } from "../../src/platform/clock.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { Book } from "../../src/providers/ssh/book.ts";
import { sshProvider } from "../../src/providers/ssh/ssh.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { type ClientKeys, generateClientKeys } from "./client-keys.ts";
import { endMachines, type SshMachine, type SshMachineOptions, sshMachine } from "./ssh-machine.ts";

export type HostInput = Readonly<Record<string, unknown>> & { readonly name: string };

/** How a test writes a machine into the configuration. */
export const hostInput = (
  machine: SshMachine,
  more: Readonly<Record<string, unknown>> = {},
): HostInput => ({ name: machine.name, host: machine.address, port: machine.port, ...more });

/** One operator with an orchestrator's SSH side: a home, keys, a list of hosts. */
export interface Operator extends AsyncDisposable {
  readonly home: string;
  readonly folder: string;
  readonly keys: ClientKeys;
  readonly provider: Provider;
  readonly links: SshLinks;
  list(...hosts: readonly HostInput[]): void;
  set(ssh: Readonly<Record<string, unknown>>): void;
  /** Writes a file below the operator's home. */
  write(path: string, text: string): string;
  /** Everything in our own known_hosts. */
  knownHosts(): string;
  open(id: string): Promise<Transport>;
}

export function operator(root: string, name: string, keys = generateClientKeys("ours")): Operator {
  const home = join(root, name);
  const folder = join(home, "ssh");
  mkdirSync(join(home, ".ssh"), { recursive: true, mode: 0o700 });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const keyPath = join(home, "id_ed25519");
  writeFileSync(keyPath, keys.privateKey, { mode: 0o600 });
  let config: SshProviderConfig = configSchema.parse({}).providers.ssh;
  const set = (ssh: Readonly<Record<string, unknown>>) => {
    config = configSchema.parse({ providers: { ssh } }).providers.ssh;
  };
  const effects = { clock: systemClock(), ids: randomIds() };
  const book = new Book(folder, effects);
  const links = new SshLinks({
    config: () => config,
    userHome: home,
    folder,
    keys: { ...keys, path: keyPath },
    openTransport: openSshTransport,
    workerOf: async (host) => (await book.read()).find((entry) => entry.host === host)?.name,
  });
  const provider = sshProvider({ config: () => config, links, book, ...effects });
  return {
    home,
    folder,
    keys,
    provider,
    links,
    set,
    list: (...hosts) => set({ hosts }),
    write(path, text) {
      writeFileSync(join(home, path), text, { mode: 0o600 });
      return join(home, path);
    },
    knownHosts: () => readFileSync(join(folder, "known_hosts"), "utf8"),
    async open(id) {
      const { address, hostKey } = await provider.dial(id);
      return openSshTransport(
        links.withRoute({
          address,
          hostKey,
          privateKey: keys.privateKey,
          connectTimeoutMs: 5_000,
          keepaliveMs: 1_000,
          maxChannels: 4,
          execTimeoutMs: 20_000,
        }),
      );
    },
    [Symbol.asyncDispose]: () => links[Symbol.asyncDispose](),
  };
}

/** A folder of machines; what is in it ends with it, whatever the test did. */
export interface Lan extends AsyncDisposable {
  readonly root: string;
  machine(name: string, options?: Partial<SshMachineOptions>): Promise<SshMachine>;
  operator(name: string, keys?: ClientKeys): Operator;
}

export function lan(authorizedKeys: readonly string[]): Lan {
  endAbandoned();
  const root = mkdtempSync(join(tmpdir(), `lan-${SCOPE}-${process.pid}-`));
  const all: AsyncDisposable[] = [];
  // A test that is cut off by its runner disposes of nothing.
  const endNow = () => endMachines(root);
  process.once("exit", endNow);
  const kept = <T extends AsyncDisposable>(one: T): T => {
    all.push(one);
    return one;
  };
  return {
    root,
    machine: async (name, options = {}) =>
      kept(await sshMachine({ root, name, authorizedKeys, ...options })),
    operator: (name, keys) => kept(operator(root, name, keys)),
    async [Symbol.asyncDispose]() {
      process.off("exit", endNow);
      for (const one of all.toReversed()) await one[Symbol.asyncDispose]();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Process ids mean something within one pid namespace only. */
const SCOPE = /[0-9]+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";

/** Ends the machines of test processes that were killed: their folders carry a pid that is gone. */
function endAbandoned(): void {
  for (const name of readdirSync(tmpdir())) {
    const [, scope, pid] = /^lan-([0-9]+)-([0-9]+)-/.exec(name) ?? [];
    if (scope === SCOPE && pid !== undefined && !existsSync(`/proc/${pid}`))
      endMachines(join(tmpdir(), name));
  }
}
