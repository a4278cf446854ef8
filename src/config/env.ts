import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { nearest } from "./nearest.ts";

/*
 * The only reader of the environment. Loads nothing but Node's own modules: every start of the CLI passes here.
 * Values of overrides are carried as text and checked with the configuration (load.ts), under the variable's name.
 */

export interface EnvVariable {
  readonly name: string;
  readonly meaning: string;
  /** The configuration field it overrides. */
  readonly field?: readonly string[];
  /** Set by the orchestrator on workers, not by people. */
  readonly ours?: true;
}

/** Every ORCHESTRATOR_* variable there is, for the reference page and for telling typing errors. */
export const ENV_VARIABLES: readonly EnvVariable[] = [
  {
    name: "ORCHESTRATOR_HOME",
    meaning: "Folder of configuration, database and socket; default ~/.sprite-orchestrator",
  },
  {
    name: "ORCHESTRATOR_NO_DAEMON",
    meaning: "1: host the controller inside the command until the run ends, as --no-daemon does",
  },
  {
    name: "ORCHESTRATOR_IDLE_EXIT_MINUTES",
    meaning: "Overrides controller.idleExitMinutes",
    field: ["controller", "idleExitMinutes"],
  },
  {
    name: "ORCHESTRATOR_PARALLEL",
    meaning: "Overrides controller.parallel",
    field: ["controller", "parallel"],
  },
  {
    name: "ORCHESTRATOR_CONFIRM_SECONDS",
    meaning: "Overrides delivery.confirmSeconds",
    field: ["delivery", "confirmSeconds"],
  },
  {
    name: "ORCHESTRATOR_FAILPOINT",
    meaning: "For fault tests: the named point at which the controller kills itself",
  },
  { name: "ORCHESTRATOR_RUN", meaning: "On a worker: the agent's run", ours: true },
  { name: "ORCHESTRATOR_LAUNCH", meaning: "On a worker: the agent's launch", ours: true },
  { name: "ORCHESTRATOR_PANE", meaning: "On a worker: the agent's tmux pane", ours: true },
  { name: "ORCHESTRATOR_JOB", meaning: "On a worker: the job that a step is of", ours: true },
  {
    name: "ORCHESTRATOR_WORKER",
    meaning: "On a worker that shares its machine: its id",
    ours: true,
  },
];

export interface Override {
  readonly variable: string;
  readonly field: readonly string[];
  readonly text: string;
}

export interface Env {
  /** The orchestrator's own folder, absolute. */
  readonly home: string;
  /** The person's home, for `~`. */
  readonly userHome: string;
  readonly path: string;
  readonly noDaemon: boolean;
  readonly overrides: readonly Override[];
  readonly noColor: boolean;
  readonly ci: boolean;
  /** TERM; undefined also when it is `dumb`. */
  readonly term: string | undefined;
  /** This process runs in a tmux window. */
  readonly insideTmux: boolean;
  /** Sentences about variables that do nothing. */
  readonly warnings: readonly string[];
  /** Reads one variable, for `env:NAME` references; undefined when unset or empty. */
  variable(name: string): string | undefined;
}

/** Reads the environment once. Throws `invalid_config` naming the variable; never shows a value. */
export function readEnv(env: NodeJS.ProcessEnv = process.env): Env {
  const variable = (name: string) => (env[name] === "" ? undefined : env[name]);
  const userHome = variable("HOME") ?? homedir();
  const term = variable("TERM");
  return {
    home: parseHome(variable("ORCHESTRATOR_HOME"), userHome),
    userHome,
    path: variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin",
    noDaemon: parseSwitch("ORCHESTRATOR_NO_DAEMON", variable("ORCHESTRATOR_NO_DAEMON")),
    overrides: ENV_VARIABLES.flatMap(({ name, field }) => {
      const text = variable(name);
      return field === undefined || text === undefined ? [] : [{ variable: name, field, text }];
    }),
    noColor: variable("NO_COLOR") !== undefined,
    ci: !["", "0", "false"].includes(env["CI"] ?? ""),
    term: term === "dumb" ? undefined : term,
    insideTmux: variable("TMUX") !== undefined,
    warnings: unknownVariables(Object.keys(env)),
    variable,
  };
}

function parseHome(value: string | undefined, userHome: string): string {
  if (value === undefined) return join(userHome, ".sprite-orchestrator");
  const expanded = value.startsWith("~/") ? join(userHome, value.slice(2)) : value;
  const home = resolve(expanded);
  // The controller runs in another folder, and locks down what is its own.
  if (isAbsolute(expanded) && home !== "/" && home !== resolve(userHome)) return home;
  throw new OrchestratorError(
    "invalid_config",
    "ORCHESTRATOR_HOME must be the absolute path of a folder of its own",
    { hint: "for example ~/.sprite-orchestrator", details: { variable: "ORCHESTRATOR_HOME" } },
  );
}

function parseSwitch(name: string, value: string | undefined): boolean {
  switch (value?.toLowerCase()) {
    case "1":
    case "true":
    case "yes":
    case "on":
      return true;
    case undefined:
    case "0":
    case "false":
    case "no":
    case "off":
      return false;
    default:
      throw new OrchestratorError("invalid_config", `${name} must be 1 or 0`, {
        details: { variable: name },
      });
  }
}

const PREFIX = "ORCHESTRATOR_";

function unknownVariables(names: readonly string[]): string[] {
  const known = ENV_VARIABLES.map(({ name }) => name.slice(PREFIX.length));
  return names
    .filter((name) => name.startsWith(PREFIX) && !known.includes(name.slice(PREFIX.length)))
    .sort()
    .map((name) => {
      const near = nearest(name.slice(PREFIX.length), known);
      const hint = near === undefined ? "" : `; did you mean ${PREFIX}${near}?`;
      return `${cleanText(name, 80)} is not a variable of the orchestrator${hint}`;
    });
}

/**
 * The environment for a controller that outlives the command: without what marks a worker's own processes. One that was started by an agent would
 * otherwise count as part of that agent's launch, and be ended with it.
 */
export function environmentForController(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const marks = new Set(ENV_VARIABLES.filter(({ ours }) => ours === true).map(({ name }) => name));
  return Object.fromEntries(Object.entries(env).filter(([name]) => !marks.has(name)));
}
