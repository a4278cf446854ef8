import { ProviderError } from "../provider-error.ts";
import type { WayHop } from "./way.ts";

/** One hop for OpenSSH: where it is, and every key file that may log in there. */
export interface OpenSshHop extends WayHop {
  readonly keyFiles: readonly string[];
}

/** The alias of the last hop in the text of `openSshConfig`. */
export const TARGET = "worker";

/**
 * A configuration file with which OpenSSH goes the way that we go ourselves: the same hops, keys and pins, and nothing of the operator's own
 * configuration. Host keys are never learned or updated by it.
 */
export function openSshConfig(hops: readonly OpenSshHop[], knownHosts: string): string {
  const sections = hops.map((hop, index) => {
    const isLast = index === hops.length - 1;
    return [
      `Host ${isLast ? TARGET : `jump-${index}`}`,
      `HostName ${value(hop.host)}`,
      `Port ${hop.port}`,
      `User ${value(hop.user)}`,
      ...hop.keyFiles.map((path) => `IdentityFile ${value(path)}`),
      `ProxyJump ${index === 0 ? "none" : `jump-${index - 1}`}`,
    ].join("\n  ");
  });
  const all = [
    "Host *",
    "IdentitiesOnly yes",
    "IdentityAgent none",
    "BatchMode yes",
    "StrictHostKeyChecking yes",
    `UserKnownHostsFile ${value(knownHosts)}`,
    "GlobalKnownHostsFile none",
    "UpdateHostKeys no",
    "CheckHostIP no",
    "ForwardAgent no",
    "ForwardX11 no",
    "ConnectTimeout 15",
    "ServerAliveInterval 5",
    "ServerAliveCountMax 3",
    "LogLevel ERROR",
  ].join("\n  ");
  return `# Written by the orchestrator, anew at every attach.\n${[...sections, all].join("\n\n")}\n`;
}

/** ssh_config has no way to write a double quote inside a value, and expands tokens. */
function value(text: string): string {
  if (/["\p{Cc}]/u.test(text)) {
    throw new ProviderError(
      "rejected",
      `${JSON.stringify(text)} cannot stand in OpenSSH's configuration`,
    );
  }
  return `"${text.replaceAll("%", "%%")}"`;
}
