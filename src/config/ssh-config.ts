import { glob, readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { type Line, SSHConfig, parse } from "ssh-config";
import { OrchestratorError } from "../domain/errors.ts";

/** What OpenSSH's client configuration says of one alias; what it does not say is undefined. */
export interface SshAlias {
  readonly host: string | undefined;
  readonly user: string | undefined;
  readonly port: number | undefined;
  readonly identityFiles: readonly string[];
  /** As written: `none`, or hops with commas between them. */
  readonly proxyJump: string | undefined;
  /** Says that a program of the operator makes the connection, which ours cannot. */
  readonly proxyCommand: string | undefined;
}

export interface SshConfig {
  lookUp(alias: string): SshAlias;
}

const MAX_DEPTH = 16;
/** A person wrote these files: more (bytes) is a mistake. */
const MAX_BYTES = 1024 * 1024;

/**
 * Reads a file like `~/.ssh/config`, with what it includes (names relative to `~/.ssh`, with patterns). A missing file says nothing; one
 * that cannot be read or understood is `invalid_config`. Runs no program: `Match exec` never matches, and no name is looked up.
 */
export async function readSshConfig(path: string, userHome: string): Promise<SshConfig> {
  const lines = await readLines(path, userHome, 0);
  return {
    lookUp: (alias) => {
      const found = compute(flatten(lines, alias), alias);
      const first = (name: string) => words(found[name])[0];
      const host = first("hostname");
      const user = first("user");
      const port = first("port");
      const tokens = { h: host ?? alias, n: alias, d: userHome, u: user ?? "", r: user ?? "" };
      return {
        host: host === undefined ? undefined : expand(host, { h: alias, n: alias }),
        user,
        port: port === undefined ? undefined : parsePort(port, alias, path),
        identityFiles: words(found["identityfile"])
          .filter((file) => file.toLowerCase() !== "none")
          .map((file) => expandPath(expand(file, tokens), userHome)),
        proxyJump: first("proxyjump"),
        proxyCommand: first("proxycommand"),
      };
    },
  };
}

const compute = (lines: SSHConfig, alias: string) =>
  lines.compute({ Host: alias }, { matchExec: false, ignoreCase: true });

/** Sections that a section includes count when both match. */
function flatten(lines: SSHConfig, alias: string): SSHConfig {
  const flat = new SSHConfig();
  for (const line of lines) {
    if (!("config" in line)) {
      flat.push(line);
      continue;
    }
    const matches = () => compute(new SSHConfig({ ...line, config: MARK }), alias)["tag"] === "yes";
    for (const part of line.config) {
      if (!("config" in part)) flat.push({ ...line, config: new SSHConfig(part) });
      else if (matches()) flat.push(...flatten(new SSHConfig(part), alias));
    }
  }
  return flat;
}

const MARK = parse("Tag yes\n");

async function readLines(path: string, userHome: string, depth: number): Promise<SSHConfig> {
  if (depth > MAX_DEPTH) throw refuse(path, "is included too deeply");
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return "";
    throw refuse(path, "cannot be read", cause);
  });
  if (text.length > MAX_BYTES) throw refuse(path, "is larger than 1 MiB");
  let parsed: SSHConfig;
  try {
    parsed = parse(text);
  } catch (cause) {
    throw refuse(path, "cannot be understood", cause);
  }
  return withIncluded(parsed, userHome, depth);
}

/** Puts what is included where the line stands, so that a section's includes count in that section only. */
async function withIncluded(
  lines: readonly Line[],
  userHome: string,
  depth: number,
): Promise<SSHConfig> {
  const all = new SSHConfig();
  for (const line of lines) {
    if (!("param" in line)) continue;
    const param = line.param.toLowerCase();
    if (param === "include") {
      for (const pattern of words(line.value)) {
        const full = expandPath(pattern, userHome);
        const wanted = isAbsolute(full) ? full : join(userHome, ".ssh", full);
        for (const path of await sorted(glob(wanted))) {
          all.push(...(await readLines(path, userHome, depth + 1)));
        }
      }
    } else if ("config" in line) {
      all.push({ ...line, config: await withIncluded(line.config, userHome, depth) });
    } else if (param !== "canonicalizehostname") {
      // The library would run a program to find the canonical name.
      all.push(line);
    }
  }
  return all;
}

async function sorted(paths: AsyncIterable<string>): Promise<string[]> {
  return (await Array.fromAsync(paths)).toSorted();
}

function words(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return [];
  return value.map((word: unknown) => {
    const text: unknown =
      typeof word === "object" && word !== null ? Reflect.get(word, "val") : word;
    return typeof text === "string" ? text : "";
  });
}

const expand = (text: string, tokens: Readonly<Record<string, string>>): string =>
  text.replaceAll(/%(.)/g, (whole, token: string) =>
    token === "%" ? "%" : (tokens[token] ?? whole),
  );

export const expandPath = (path: string, userHome: string): string =>
  path === "~" || path.startsWith("~/") ? join(userHome, path.slice(1)) : path;

function parsePort(text: string, alias: string, path: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw refuse(path, `gives host ${JSON.stringify(alias)} a port that is none`);
}

function refuse(path: string, what: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError("invalid_config", `${path} ${what}`, { cause, details: { path } });
}
