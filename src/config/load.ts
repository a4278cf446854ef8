import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";
import { OrchestratorError } from "../domain/errors.ts";
import { type Config, configSchema } from "./config.ts";
import type { Override } from "./env.ts";
import { invalidConfig, type Located, type Problem, problemsOf, valueAt } from "./problems.ts";
import { parseYaml, type Position, type YamlText } from "./yaml-text.ts";

/** A configuration is text that a person wrote; more than this (bytes) is a mistake. */
const MAX_BYTES = 1024 * 1024;

/**
 * Reads and checks config.yaml; a missing file is the default configuration. The environment's overrides win over the
 * file. Throws one `invalid_config` that names the file and the first problem, with every problem in its details.
 */
export async function loadConfig(
  path: string,
  env: { readonly overrides: readonly Override[] },
): Promise<Config> {
  return parseConfig((await readConfigText(path)) ?? "", path, env.overrides).config;
}

export interface ParsedConfig {
  readonly config: Config;
  readonly yaml: YamlText;
}

/** Pure part of `loadConfig`; `file` is only a name for messages. */
export function parseConfig(
  text: string,
  file: string,
  overrides: readonly Override[] = [],
): ParsedConfig {
  const result = parseYaml(text);
  if (result.kind === "broken") {
    const problems = result.problems.slice(0, 20).map(({ line, column, message }) => {
      return { path: "", line, column, what: `not valid YAML: ${message}` };
    });
    throw invalidConfig(file, problems);
  }
  const { yaml } = result;
  const position = yaml.position;
  return { config: checkConfig(yaml.value ?? {}, file, { overrides, position }), yaml };
}

/** Pure: checks plain values, as YAML or JSON gives them, and applies `defaults` and overrides. */
export function checkConfig(
  value: unknown,
  file: string,
  options: {
    readonly overrides?: readonly Override[];
    readonly position?: (path: readonly PropertyKey[]) => Position;
  } = {},
): Config {
  const { overrides = [], position } = options;
  const place = (problem: Located): Problem => ({ ...problem, ...position?.(problem.keys) });
  const raw = withoutNulls(value, []);
  // As written first, so that a mistake in `defaults` is reported there.
  check(raw, file, place);
  const merged = applyDefaults(raw);
  const config = check(merged, file, place);
  if (overrides.length === 0) return sealed(config);
  const overridden = check(applyOverrides(merged, overrides), "environment", (problem) => {
    const source = overrides.find(({ field }) => field.join(".") === problem.keys.join("."));
    return { ...problem, path: source?.variable ?? problem.path };
  });
  return sealed(overridden);
}

function check(raw: unknown, file: string, place: (problem: Located) => Problem): Config {
  const result = configSchema.safeParse(raw);
  const problems = result.success ? [] : problemsOf(result.error.issues, raw);
  // zod's records skip this key in silence.
  const repos = valueAt(raw, ["repos"]);
  if (typeof repos === "object" && repos !== null && Object.hasOwn(repos, "__proto__")) {
    const keys = ["repos", "__proto__"];
    problems.push({ path: "repos.__proto__", keys, what: "is no valid name" });
  }
  if (result.success && problems.length === 0) return result.data;
  throw invalidConfig(file, problems.map(place));
}

/** `repos` without a prototype, so that no repo is found under a name like `constructor`. */
function sealed(config: Config): Config {
  const repos: Config["repos"] = Object.assign(Object.create(null), config.repos);
  return { ...config, repos };
}

type Mapping = Readonly<Record<string, unknown>>;

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A key without a value counts as absent, save where the key itself says something: repos and variables. */
function withoutNulls(value: unknown, path: readonly string[]): unknown {
  if (!isMapping(value)) return value;
  const named = /^(repos|defaults\/env|repos\/[^/]*\/env)$/.test(path.join("/"));
  const entries = Object.entries(value)
    .filter(([, child]) => child !== null || named)
    .map(([key, child]) => [key, path.length > 8 ? child : withoutNulls(child, [...path, key])]);
  return Object.fromEntries(entries);
}

/** Mappings of a repo that take what they do not say from `defaults`, key by key. */
const MERGED = ["env", "snapshots", "commitRule"];

/** Repos with the values of `defaults` that they do not set; `raw` has passed the schema. */
function applyDefaults(raw: unknown): unknown {
  if (!isMapping(raw) || !isMapping(raw["repos"]) || !isMapping(raw["defaults"])) return raw;
  const defaults = raw["defaults"];
  const repos = Object.entries(raw["repos"]).map(([name, repo]) => {
    if (!isMapping(repo)) return [name, repo];
    const merged = MERGED.map((key) => [key, { ...mapping(defaults[key]), ...mapping(repo[key]) }]);
    return [name, { ...defaults, ...repo, ...Object.fromEntries(merged) }];
  });
  return { ...raw, repos: Object.fromEntries(repos) };
}

const mapping = (value: unknown): Mapping => (isMapping(value) ? value : {});

function applyOverrides(raw: unknown, overrides: readonly Override[]): unknown {
  return overrides.reduce((config, { field, text }) => {
    const value = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    return withValue(mapping(config), field, value);
  }, raw);
}

function withValue(target: Mapping, [key, ...rest]: readonly string[], value: unknown): Mapping {
  if (key === undefined) return target;
  return {
    ...target,
    [key]: rest.length === 0 ? value : withValue(mapping(target[key]), rest, value),
  };
}

/** The file's text, or null when there is no file. Throws `invalid_config` for what cannot be a configuration. */
export async function readConfigText(path: string): Promise<string | null> {
  let file;
  try {
    // Without O_NONBLOCK, a pipe of that name would hold us for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const absent = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (absent && !(await isLink(path))) return null;
    if (absent) throw invalidFile(path, "is a link to nothing", error);
    throw invalidFile(path, "cannot be read", error);
  }
  await using handle = file;
  const found = await handle.stat();
  if (!found.isFile()) throw invalidFile(path, "is not a file");
  // `cmd:` references run commands: whoever may write the file may act as its owner.
  if ((found.mode & 0o002) !== 0) throw invalidFile(path, "may be written by every user");
  if (found.size > MAX_BYTES) throw invalidFile(path, "is larger than 1 MiB");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await handle.readFile());
  } catch (error) {
    throw invalidFile(path, "is not UTF-8 text", error);
  }
}

const isLink = (path: string) =>
  lstat(path).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );

function invalidFile(path: string, what: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError("invalid_config", `${path} ${what}`, {
    cause,
    details: { file: path, problems: [] },
  });
}
