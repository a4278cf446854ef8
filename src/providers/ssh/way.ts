import type { SshHostConfig, SshJumpConfig } from "../../config/providers.ts";
import { expandPath, type SshConfig } from "../../config/ssh-config.ts";
import { ProviderError } from "../provider-error.ts";

/** One SSH server on the way to a host, as configured: names and paths, nothing read yet. */
export interface WayHop {
  /** How the operator calls it. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Keys that were asked for; empty: OpenSSH's usual names. */
  readonly identityFiles: readonly string[];
  /** `SHA256:...` or `ssh-ed25519 AAAA...`: then no other key counts. */
  readonly hostKey: string | null;
}

/** How one host of the list is reached: its jump hosts in order, then itself. */
export interface Way {
  readonly name: string;
  readonly hops: readonly [WayHop, ...WayHop[]];
  readonly shared: boolean;
}

const MAX_HOPS = 9;

export interface WayOptions {
  readonly sshConfig: SshConfig;
  /** The account to log in to when nobody says. */
  readonly user: string;
  readonly userHome: string;
}

/** Pure: what config.yaml says of a host counts, then `~/.ssh/config`, then OpenSSH's defaults. */
export function wayTo(host: SshHostConfig, options: WayOptions): Way {
  const alias = host.host ?? host.name;
  const said = options.sshConfig.lookUp(host.name);
  const target = hopOf({ ...host, host: host.host ?? said.host ?? host.name }, host.name, options);
  const jumps =
    host.jump?.map((jump) => hopOf(withAddress(jump, options), jump.host, options)) ??
    jumpsOf(host.name, options, [alias]);
  if (host.jump === undefined && said.proxyJump === undefined && said.proxyCommand !== undefined) {
    throw refuse(host.name, "is reached by a ProxyCommand in ~/.ssh/config, which is never run", {
      hint: `say with jump which hosts lie before ${host.name}, or jump: [] for none`,
    });
  }
  const [first, ...rest] = jumps;
  const hops: Way["hops"] = first === undefined ? [target] : [first, ...rest, target];
  if (hops.length > MAX_HOPS) throw refuse(host.name, `lies behind more than ${MAX_HOPS} hops`);
  return { name: host.name, hops, shared: host.shared };
}

const withAddress = (jump: SshJumpConfig, { sshConfig }: WayOptions): SshJumpConfig => ({
  ...jump,
  host: sshConfig.lookUp(jump.host).host ?? jump.host,
});

function hopOf(given: SshJumpConfig, alias: string, options: WayOptions): WayHop {
  const said = options.sshConfig.lookUp(alias);
  return {
    name: alias,
    host: given.host,
    port: given.port ?? said.port ?? 22,
    user: given.user ?? said.user ?? options.user,
    identityFiles:
      given.identityFile === undefined
        ? said.identityFiles
        : [expandPath(given.identityFile, options.userHome)],
    hostKey: given.hostKey ?? null,
  };
}

/** `ProxyJump` of an alias. The first hop's own `ProxyJump` comes before it, as in OpenSSH. */
function jumpsOf(alias: string, options: WayOptions, seen: readonly string[]): WayHop[] {
  const text = options.sshConfig.lookUp(alias).proxyJump;
  if (text === undefined || text.toLowerCase() === "none") return [];
  const hops = text.split(",").map((one) => parseJump(one.trim(), alias, options));
  const first = hops[0]?.name ?? "";
  if (seen.includes(first)) throw refuse(alias, `lies behind itself: ProxyJump ${first}`);
  return [...jumpsOf(first, options, [...seen, first]), ...hops];
}

/** `[user@]host[:port]`, also as `ssh://...`; an IPv6 address in brackets. */
function parseJump(text: string, alias: string, options: WayOptions): WayHop {
  const match =
    /^(?:ssh:\/\/)?(?:([^@\s]+)@)?(?:\[([^\]]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?\/?$/.exec(text);
  const host = match?.[2] ?? match?.[3];
  if (host === undefined) throw refuse(alias, "has a ProxyJump that is not understood");
  const port = match?.[4];
  const jump = {
    host: options.sshConfig.lookUp(host).host ?? host,
    ...(match?.[1] === undefined ? {} : { user: match[1] }),
    ...(port === undefined ? {} : { port: Number(port) }),
  };
  return hopOf(jump, host, options);
}

const refuse = (name: string, what: string, options: { hint?: string } = {}) =>
  new ProviderError("rejected", `host ${name} ${what}`, options);
