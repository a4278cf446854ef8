import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";

import { readIdentity } from "../config/identity.ts";
import type { SshHostConfig, SshProviderConfig } from "../config/providers.ts";
import { expandPath, readSshConfig } from "../config/ssh-config.ts";
import { OrchestratorError } from "../domain/errors.ts";
import type { OnTerminal, ProviderAddress } from "../providers/provider.ts";
import { attachThrough } from "../providers/ssh/attach.ts";
import type { HostLinks, ScriptResult } from "../providers/ssh/links.ts";
import { openSshConfig, TARGET } from "../providers/ssh/openssh.ts";
import { type Way, wayTo, type WayHop } from "../providers/ssh/way.ts";
import type {
  ConnectSettings,
  Hop,
  OpenTransport,
  Route,
  Transport,
} from "../transport/transport.ts";
import { HostKeys, type Pinned } from "./host-keys.ts";

export interface SshLinksOptions {
  config(): SshProviderConfig;
  readonly userHome: string;
  /** Private folder for our known_hosts and OpenSSH's configuration. */
  readonly folder: string;
  /** The controller's own key: tried last, and the one that `create` lets in. */
  readonly keys: { readonly path: string; readonly privateKey: string; readonly publicKey: string };
  readonly openTransport: OpenTransport;
  /** Which worker has the host, as far as we know. */
  workerOf(host: string): Promise<string | undefined>;
}

const USUAL_KEYS = ["id_ed25519", "id_ecdsa", "id_rsa"];
const PTY_TIMEOUT_MS = 20_000;

/**
 * The SSH side of the provider `ssh`: finds the way to a host in the configuration, with keys and pins as they are at that moment, and
 * keeps one connection a host for the provider's own questions.
 */
export class SshLinks implements HostLinks, AsyncDisposable {
  readonly keyBlob: string;
  readonly #options: SshLinksOptions;
  readonly #hostKeys: HostKeys;
  readonly #open = new Map<string, { readonly way: string; readonly transport: Transport }>();

  constructor(options: SshLinksOptions) {
    this.#options = options;
    this.keyBlob = options.keys.publicKey.split(" ")[1] ?? "";
    this.#hostKeys = new HostKeys({
      path: this.#knownHosts,
      operatorPath: () => {
        const { knownHosts } = options.config();
        return knownHosts === "none" ? null : expandPath(knownHosts, options.userHome);
      },
    });
  }

  /** Settings of a transport to a host, with the way to it; those of other addresses as they are. */
  withRoute(settings: ConnectSettings): ConnectSettings {
    const { address } = settings;
    if (address.kind !== "ssh-host") return settings;
    const host = address.name;
    return {
      ...settings,
      route: async () => {
        const worker = await this.#options.workerOf(host);
        return this.#route(host, (hop) => this.#asPinned(hop, worker));
      },
    };
  }

  async script(
    host: string,
    text: string,
    args: readonly string[],
    options: { timeoutMs?: number } = {},
  ): Promise<ScriptResult> {
    const transport = await this.#transportTo(host);
    return transport.script(text, args, options);
  }

  async address(host: string): Promise<ProviderAddress> {
    return addressOf(await this.#wayTo(host));
  }

  async attach(host: string, session: string | null, tmuxDir: string): Promise<OnTerminal> {
    const way = await this.#wayTo(host);
    const hops = await Promise.all(
      way.hops.map(async (hop) => {
        const found = await this.#identities(hop);
        return { ...hop, keyFiles: [...found.map(({ path }) => path), this.#options.keys.path] };
      }),
    );
    const file = join(this.#options.folder, `${host}.conf`);
    await writeFile(file, openSshConfig(hops, this.#knownHosts), { mode: 0o600 });
    const ssh = ["ssh", "-F", file];
    const hasPty = await givesPty([...ssh, "-tt", TARGET, "--", "test -t 0"], host);
    return attachThrough(ssh, { target: TARGET, session, tmuxDir, hasPty });
  }

  async trust(host: string, fingerprint: string): Promise<string> {
    const way = await this.#wayTo(host);
    let shownBy: string | undefined;
    let fixed: string | undefined;
    const accept = (hop: WayHop): Partial<Hop> => {
      const { fingerprints, types, byConfig } = this.#hostKeys.pinnedFor(hop);
      return {
        hostKeys: fingerprints,
        hostKeyTypes: types,
        onHostKey: (shown, blob) => {
          if (shown !== fingerprint) return false;
          if (byConfig) {
            fixed = hop.name;
            return false;
          }
          this.#hostKeys.replace(hop, blob);
          shownBy = hop.name;
          return true;
        },
      };
    };
    await using transport = this.#options.openTransport({
      ...this.#settings(way),
      route: () => this.#route(host, accept),
    });
    try {
      await transport.exec(["true"]);
    } catch (error) {
      if (fixed !== undefined) throw pinnedByConfig(fixed, error);
      // What lies behind a hop whose key is accepted now may be closed for reasons of its own.
      if (shownBy === undefined) throw error;
    }
    await this.#drop(host);
    if (shownBy !== undefined) return shownBy;
    throw new OrchestratorError(
      "not_found",
      `nobody on the way to host ${host} shows the host key ${fingerprint} that is not trusted already`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#open.keys()].map((host) => this.#drop(host)));
  }

  get #knownHosts(): string {
    return join(this.#options.folder, "known_hosts");
  }

  async #transportTo(host: string): Promise<Transport> {
    const way = await this.#wayTo(host);
    const key = JSON.stringify(way);
    const open = this.#open.get(host);
    if (open?.way === key) return open.transport;
    const transport = this.#options.openTransport(this.withRoute(this.#settings(way)));
    this.#open.set(host, { way: key, transport });
    await open?.transport.close();
    return transport;
  }

  async #drop(host: string): Promise<void> {
    const open = this.#open.get(host);
    this.#open.delete(host);
    await open?.transport.close();
  }

  #settings(way: Way): ConnectSettings {
    return {
      address: addressOf(way),
      privateKey: this.#options.keys.privateKey,
      hostKey: null,
      connectTimeoutMs: 8_000,
      keepaliveMs: 5_000,
      maxChannels: 4,
      execTimeoutMs: 20_000,
    };
  }

  async #wayTo(name: string): Promise<Way> {
    const { hosts, config } = this.#options.config();
    const { userHome } = this.#options;
    const host: SshHostConfig | undefined = hosts.find((one) => one.name === name);
    if (host === undefined) {
      throw new OrchestratorError("not_found", `there is no host ${name} in the configuration`);
    }
    const path = config === "none" ? "/dev/null" : expandPath(config, userHome);
    const sshConfig = await readSshConfig(path, userHome);
    return wayTo(host, { sshConfig, userHome, user: userInfo().username });
  }

  async #route(host: string, keys: (hop: WayHop) => Partial<Hop>): Promise<Route> {
    const { hops } = await this.#wayTo(host);
    const [first, ...rest] = hops;
    const whole = async (hop: WayHop): Promise<Hop> => {
      const found = await this.#identities(hop);
      const { keys: own } = this.#options;
      const tried = [...found.map(({ path }) => path), own.path].join(", ");
      return {
        name: hop.name,
        host: hop.host,
        port: hop.port,
        user: hop.user,
        privateKeys: [...found.map(({ text }) => text), own.privateKey],
        howToLogIn: `user ${hop.user} was refused with ${tried}; name another identityFile, or add the line of ${own.path}.pub to authorized_keys there`,
        hostKeys: [],
        ...keys(hop),
      };
    };
    return [await whole(first), ...(await Promise.all(rest.map(whole)))];
  }

  #asPinned(hop: WayHop, worker: string | undefined): Partial<Hop> {
    const { fingerprints, types, byConfig }: Pinned = this.#hostKeys.pinnedFor(hop);
    return {
      hostKeys: fingerprints,
      hostKeyTypes: types,
      onHostKey: (_shown, blob) => !byConfig && this.#hostKeys.learn(hop, blob),
      ...(byConfig ? { onKnownKey: (blob) => this.#hostKeys.keep(hop, blob) } : {}),
      howToTrust: (shown) => {
        const pin = `hostKey of ${hop.name} in the configuration`;
        if (byConfig) return `the pin is ${pin}: change it there if the new key is meant`;
        const trust = `'orchestrator worker trust ${worker} --host-key ${shown}'`;
        const how = worker === undefined ? `set it as ${pin}` : `${trust}, or set it as ${pin}`;
        return `if the new key is meant: ${how}`;
      },
    };
  }

  /** Keys that were asked for must be usable; of OpenSSH's usual ones, those that are. */
  async #identities(hop: WayHop): Promise<{ path: string; text: string }[]> {
    const found: { path: string; text: string }[] = [];
    for (const path of hop.identityFiles) {
      const text = await readIdentity(path);
      if (text !== undefined) found.push({ path, text });
    }
    if (hop.identityFiles.length > 0) return found;
    for (const name of USUAL_KEYS) {
      const path = join(this.#options.userHome, ".ssh", name);
      const text = await readIdentity(path).catch(() => undefined);
      if (text !== undefined) found.push({ path, text });
    }
    return found;
  }
}

function addressOf({ name, hops }: Way): Extract<ProviderAddress, { kind: "ssh-host" }> {
  const { host, port, user } = hops.at(-1) ?? hops[0];
  return { kind: "ssh-host", name, host, port, user };
}

const pinnedByConfig = (hop: string, cause: unknown) =>
  new OrchestratorError("invalid_config", `the host key of ${hop} is pinned in the configuration`, {
    cause,
    hint: `change hostKey of ${hop} there`,
  });

/** Whether the host gives us a terminal; where its sshd may not own one, the whole connection can drop. */
function givesPty(argv: readonly string[], host: string): Promise<boolean> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { timeout: PTY_TIMEOUT_MS }, (error) => {
      if (error !== null && error.code === "ENOENT") {
        const message = `attaching to host ${host} needs the program ssh, which is not installed here`;
        const hint = "install the package openssh-client";
        reject(new OrchestratorError("invalid_config", message, { hint }));
      } else resolve(error === null);
    });
    child.stdin?.end();
  });
}
