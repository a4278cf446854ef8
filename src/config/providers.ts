import { z } from "zod";

/* The part of config.yaml that says where workers come from. */

/** What `ssh` is given as a host: no option, no user or port inside. */
const hostAddress = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:%-]*$/, "must be an alias, a host name or an address");

const sshLogin = {
  user: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.@-]*$/, "must be a user name")
    .optional()
    .describe("Default: what ~/.ssh/config says, else the user of the controller"),
  port: z.int().min(1).max(65_535).optional().describe("Default: what ~/.ssh/config says, else 22"),
  identityFile: z
    .string()
    .regex(/^(\/|~\/)[^\p{Cc}"]+$/u, "must be the path of a key file (absolute or ~/...)")
    .optional()
    .describe(
      "Private key (0600, without passphrase). Default: those of ~/.ssh/config, else OpenSSH's usual names; the controller's own key last",
    ),
  hostKey: z
    .string()
    .regex(
      /^(SHA256:[A-Za-z0-9+/]{43}|[a-z0-9@.-]+ [A-Za-z0-9+/]+=*)$/,
      "must be SHA256:... or a public key (ssh-ed25519 AAAA...)",
    )
    .optional()
    .describe(
      "The only host key that is accepted: its fingerprint or public key. Default: known_hosts, else the key of the first contact",
    ),
} as const;

const sshJump = z
  .strictObject({
    host: hostAddress.describe("Alias of ~/.ssh/config, host name or address"),
    ...sshLogin,
  })
  .describe("A jump host, in the order in which they are passed");

const sshHost = z
  .strictObject({
    name: z
      .string()
      .max(64)
      .regex(
        /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
        "must be letters, digits, dots, dashes and underscores",
      )
      .describe("What the host is called here; unique, and looked up in ~/.ssh/config"),
    host: hostAddress
      .optional()
      .describe("Host name or address. Default: what ~/.ssh/config says, else the name"),
    ...sshLogin,
    jump: z
      .array(sshJump)
      .max(8)
      .optional()
      .describe("Jump hosts. Default: ProxyJump of ~/.ssh/config; an empty list: none"),
    shared: z
      .boolean()
      .default(true)
      .describe(
        "Whether somebody else uses this account: then tmux has a socket of its own. false: tmux's default socket",
      ),
  })
  .describe("One machine and account that may become a worker");

function refuseSameNames(hosts: readonly { readonly name: string }[], context: z.RefinementCtx) {
  for (const [index, { name }] of hosts.entries()) {
    if (hosts.findIndex((host) => host.name === name) === index) continue;
    const message = "is the name of another host of the list";
    context.addIssue({ code: "custom", path: [index, "name"], message });
  }
}

export const providersSchema = z
  .strictObject({
    ssh: z
      .strictObject({
        hosts: z
          .array(sshHost)
          .max(1_000)
          .superRefine(refuseSameNames)
          .default([])
          .describe("Machines that pools with provider ssh may take as workers, in this order"),
        config: z
          .string()
          .regex(/^(none|(\/|~\/)[^\p{Cc}]+)$/u, "must be a path (absolute or ~/...) or none")
          .default("~/.ssh/config")
          .describe("OpenSSH's client configuration that is read, or none"),
        knownHosts: z
          .string()
          .regex(/^(none|(\/|~\/)[^\p{Cc}]+)$/u, "must be a path (absolute or ~/...) or none")
          .default("~/.ssh/known_hosts")
          .describe("Where host keys are looked up before the first contact, or none"),
      })
      .prefault({})
      .describe("Machines that you have already, over SSH"),
  })
  .prefault({})
  .describe("Where workers come from, beside this machine");

export type SshProviderConfig = z.output<typeof providersSchema>["ssh"];
export type SshHostConfig = SshProviderConfig["hosts"][number];
export type SshJumpConfig = z.output<typeof sshJump>;
