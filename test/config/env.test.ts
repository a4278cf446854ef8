import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { execa } from "execa";
import { configSchema } from "../../src/config/config.ts";
import { ENV_VARIABLES, environmentForController, readEnv } from "../../src/config/env.ts";
import { valueAt } from "../../src/config/problems.ts";
import { errorOf } from "./support.ts";

test("home is ORCHESTRATOR_HOME, or a folder in the person's home", () => {
  const home = (value?: string) =>
    readEnv({ HOME: "/h", ...(value === undefined ? {} : { ORCHESTRATOR_HOME: value }) }).home;
  assert.equal(home(), "/h/.sprite-orchestrator");
  assert.equal(home(""), "/h/.sprite-orchestrator");
  assert.equal(home("/srv/o/"), "/srv/o");
  assert.equal(home("~/o"), "/h/o");
});

test("a home that other processes would see elsewhere, or that is not our own, is refused", async () => {
  for (const value of ["o", "./o", "/", "/h", "/h/", "~/", "~other/o"]) {
    const error = await errorOf(() => readEnv({ HOME: "/h", ORCHESTRATOR_HOME: value }));
    assert.equal(error.code, "invalid_config", value);
    assert.match(error.message, /^ORCHESTRATOR_HOME must be/, value);
  }
});

test("switches are on, off, or an error that names the variable", async () => {
  const noDaemon = (value: string) => readEnv({ ORCHESTRATOR_NO_DAEMON: value }).noDaemon;
  for (const on of ["1", "true", "YES", "on"]) assert.equal(noDaemon(on), true, on);
  for (const off of ["", "0", "false", "no", "off"]) assert.equal(noDaemon(off), false, off);
  assert.equal(
    (await errorOf(() => noDaemon("2"))).message,
    "ORCHESTRATOR_NO_DAEMON must be 1 or 0",
  );
});

test("variables of ours that do nothing are warned of, those of workers are not", () => {
  const env = readEnv({
    ORCHESTRATOR_PARALEL: "3",
    ORCHESTRATOR_RUN: "run-1",
    ORCHESTRATOR_LAUNCH: "run-1/1",
    ORCHESTRATOR_PARALLEL: "3",
    ORCHESTRATOR_ZEBRA: "1",
    OTHER: "x",
  });
  assert.deepEqual(env.warnings, [
    "ORCHESTRATOR_PARALEL is not a variable of the orchestrator; did you mean ORCHESTRATOR_PARALLEL?",
    "ORCHESTRATOR_ZEBRA is not a variable of the orchestrator",
  ]);
});

test("terminal facts follow the conventions", () => {
  const env = readEnv({ NO_COLOR: "1", CI: "true", TERM: "dumb", TMUX: "/tmp/x,1,0" });
  assert.deepEqual([env.noColor, env.ci, env.term, env.insideTmux], [true, true, undefined, true]);
  const plain = readEnv({ NO_COLOR: "", CI: "false", TERM: "xterm" });
  assert.deepEqual(
    [plain.noColor, plain.ci, plain.term, plain.insideTmux],
    [false, false, "xterm", false],
  );
});

test("every override names a field that the configuration has", () => {
  const defaults = configSchema.parse({});
  const fields = ENV_VARIABLES.flatMap(({ field }) => (field ? [field] : []));
  assert.ok(fields.length > 0);
  for (const field of fields)
    assert.equal(typeof valueAt(defaults, field), "number", field.join("."));
});

test("the environment that was read does not show its values", () => {
  const env = readEnv({ HOME: "/h", ANTHROPIC_API_KEY: "sk-ant-SECRET" });
  assert.equal(env.variable("ANTHROPIC_API_KEY"), "sk-ant-SECRET");
  assert.doesNotMatch(inspect(env, { depth: 9 }) + JSON.stringify(env), /SECRET/);
});

test("reading the environment loads no package", async () => {
  const file = new URL("../../src/config/env.ts", import.meta.url).href;
  const script = `
    import { registerHooks } from "node:module";
    const seen = [];
    registerHooks({ load: (url, context, next) => (seen.push(url), next(url, context)) });
    await import(${JSON.stringify(file)});
    console.log(JSON.stringify(seen));
  `;
  const { stdout } = await execa(process.execPath, ["--input-type=module", "-e", script]);
  const seen = JSON.parse(stdout) as string[];
  assert.ok(seen.length > 0);
  assert.deepEqual(
    seen.filter((url) => url.includes("node_modules")),
    [],
  );
});

test("a controller that an agent starts does not carry the agent's marks", () => {
  const env = {
    ORCHESTRATOR_LAUNCH: "run-a/1",
    ORCHESTRATOR_WORKER: "w",
    ORCHESTRATOR_HOME: "/h",
    KEY: "k",
  };
  assert.deepEqual(environmentForController(env), { ORCHESTRATOR_HOME: "/h", KEY: "k" });
});
