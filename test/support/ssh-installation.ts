import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { generateClientKeys } from "./client-keys.ts";
import { type Installation, installation } from "./installation.ts";
import { type HostInput, type Lan, lan } from "./ssh-fleet.ts";

/** The operator's own key: what the machines let in. */
export const PERSON = generateClientKeys("person");

export interface SshInstallation extends Installation {
  readonly machines: Lan;
  /** Writes the list of hosts, with the pool `kite` on them. */
  hosts(hosts: readonly HostInput[], repo?: Readonly<Record<string, unknown>>): void;
}

/** An orchestrator whose pool `kite` runs on SSH hosts; the person's key is where OpenSSH looks for it. */
export function sshInstallation(): SshInstallation {
  const machines = lan([PERSON.publicKey]);
  const installed = installation();
  const ssh = join(String(installed.env["HOME"]), ".ssh");
  mkdirSync(ssh, { mode: 0o700 });
  writeFileSync(join(ssh, "id_ed25519"), PERSON.privateKey, { mode: 0o600 });
  return {
    ...installed,
    machines,
    hosts: (hosts, repo = {}) =>
      installed.configure({ provider: "ssh", ...repo }, { providers: { ssh: { hosts } } }),
    async [Symbol.asyncDispose]() {
      await installed[Symbol.asyncDispose]();
      await machines[Symbol.asyncDispose]();
    },
  };
}
