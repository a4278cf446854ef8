import assert from "node:assert/strict";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { execa } from "execa";
import * as fc from "fast-check";
import { parseConfig, loadConfig } from "../../src/config/load.ts";
import { readEnv } from "../../src/config/env.ts";
import { errorOf, temporaryFolder } from "./support.ts";

const parse = (text: string) => parseConfig(text, "config.yaml").config;

test("a missing, empty or commented-out file is the default configuration", async (t) => {
  const folder = await temporaryFolder(t);
  const missing = await loadConfig(join(folder, "config.yaml"), { overrides: [] });
  const expected = {
    repos: {},
    controller: { idleExitMinutes: 10, parallel: 16 },
    limits: { retrySeconds: 60 },
    delivery: { confirmSeconds: 30 },
    providers: {
      ssh: { hosts: [], config: "~/.ssh/config", knownHosts: "~/.ssh/known_hosts" },
    },
    alerts: [],
    check: {
      log: "/var/log/orchestrator-status.log",
      parallel: 32,
      workerSeconds: 15,
      sweepSeconds: 120,
    },
  };
  for (const config of [missing, parse(""), parse("# nothing\n"), parse("repos:\ndefaults:\n")]) {
    assert.deepEqual({ ...config, repos: { ...config.repos } }, expected);
  }
});

test("a repo takes its own value, then that of defaults, then the built-in one", () => {
  const config = parse(`
defaults:
  provider: ssh
  minIdle: 2
  env: {A: "1", B: "1"}
  auth: {kind: api-key, secret: "env:KEY"}
  snapshots: {push: remote, keepDays: 7}
  commitRule: {nudge: false}
repos:
  kite: {url: x, minIdle: 1, env: {B: "2"}, snapshots: {everyMinutes: 0, keepDays: 1}}
  lark: {url: y}
`);
  assert.equal(config.repos["kite"]?.provider, "ssh");
  assert.equal(config.repos["kite"]?.minIdle, 1);
  assert.deepEqual(config.repos["kite"]?.env, { A: "1", B: "2" });
  assert.equal(config.repos["lark"]?.minIdle, 2);
  assert.equal(config.repos["lark"]?.auth?.secret, "env:KEY");
  assert.equal(config.repos["lark"]?.push, "none");
  const built = { everyMinutes: 5, keepCount: 200 };
  assert.deepEqual(config.repos["lark"]?.snapshots, { ...built, push: "remote", keepDays: 7 });
  assert.deepEqual(config.repos["kite"]?.snapshots, {
    ...built,
    push: "remote",
    everyMinutes: 0,
    keepDays: 1,
  });
  assert.deepEqual(config.repos["kite"]?.commitRule, { minutes: 30, nudge: false });
});

test("no repo is found under a name that every object has", () => {
  assert.equal(parse("").repos["constructor"], undefined);
  assert.equal(parse("repos: {constructor: {url: x}}").repos["constructor"]?.url, "x");
});

test("what a person would write is accepted", () => {
  const good = [
    "repos: {kite: {url: 'git@github.com:a/kite.git'}}",
    "repos: {kite: {url: 'ssh://git@host:22/a/kite'}}",
    "repos: {kite: {url: 'https://github.com/a/kite.git', branch: feature/x}}",
    "repos: {kite: {url: '/srv/my repos/kite'}}",
    "repos: {kite: {url: '../kite', setup: tools/setup.sh, flags: [--model, opus]}}",
    "repos: {kite: {url: x, maxWorkers: 3, minIdle: 3, verify: 'npm test'}}",
    "repos: {kite: {url: x, permissionMode: }}",
    "x: &x {A: b}\n".replace("x: &x", "defaults: {env: &x") + "}\nrepos: {kite: {url: u, env: *x}}",
    "\ufeffcontroller:\r\n  parallel: 4\r\n",
    "repos: {kite: {url: x, auth: {kind: oauth-token, secret: 'cmd:op read x', baseUrl: 'http://127.0.0.1:1/v1'}}}",
    "repos: {kite: {url: x}, kite-web: {url: y}, lark-2: {url: z}}",
  ];
  for (const text of good) assert.doesNotThrow(() => parse(text), text);
});

/** text, message after the file's name, hint. */
const BAD: readonly (readonly [string, string, string?])[] = [
  [
    "repos:\n  kite:\n    url: x\n    maxWorker: 3\n",
    ":4:5: repos.kite.maxWorker is not a known key",
    "did you mean maxWorkers?",
  ],
  [
    "repos: {kite: {url: x, max_workers: 1}}",
    ":1:24: repos.kite.max_workers is not a known key",
    "did you mean maxWorkers?",
  ],
  ["maxWorkers: 3", ":1:1: maxWorkers is not a known key", "maxWorkers belongs below repos.<name>"],
  ["parallel: 3", ":1:1: parallel is not a known key", "parallel belongs below controller"],
  [
    "zebra: 3",
    ":1:1: zebra is not a known key",
    "known keys are repos, defaults, providers, controller, limits, delivery, alerts, check",
  ],
  [
    "defaults: {url: x}",
    ":1:12: defaults.url is not a known key",
    "url belongs below repos.<name>",
  ],
  [
    "defaults: {minIdle: -1}\nrepos: {kite: {url: x}}",
    ":1:12: defaults.minIdle must be at least 0",
  ],
  ["repos: {kite: {}}", ":1:9: repos.kite.url is required"],
  [
    "repos:\n  kite:\n",
    ":2:3: repos.kite must be a mapping, not empty",
    "give it a value or remove the line",
  ],
  ["repos: {kite: {url: }}", ":1:16: repos.kite.url is required"],
  ["repos: {kite: {url: 7}}", ":1:16: repos.kite.url must be text, not a number"],
  ["repos: {kite: {url: ''}}", ":1:16: repos.kite.url must not be empty"],
  ["repos: [kite]", ":1:1: repos must be a mapping, not a list"],
  [
    "repos: {Kite: {url: x}}",
    ":1:9: repos.Kite is no valid name: it must be lower-case letters, digits and dashes, starting with a letter or digit",
  ],
  [
    `repos: {${"k".repeat(41)}: {url: x}}`,
    `:1:9: repos.${"k".repeat(41)} is no valid name: it must be at most 40 characters long`,
  ],
  [
    "repos: {'a b\\u001b[': {url: x}}",
    ':1:9: repos."a b\\\\u001b[" is no valid name: it must be lower-case letters, digits and dashes, starting with a letter or digit',
  ],
  ["repos: {__proto__: {url: x}}", ":1:9: repos.__proto__ is no valid name"],
  [
    "__proto__: {}",
    ":1:1: __proto__ is not a known key",
    "known keys are repos, defaults, providers, controller, limits, delivery, alerts, check",
  ],
  [
    "repos:\n  kite: {url: x}\n  kite-2: {url: y}\n",
    ":3:3: repos.kite-2 could be taken for a worker of repo kite",
  ],
  [
    "repos: {kite: {url: x, minIdle: 1.5}}",
    ":1:24: repos.kite.minIdle must be a whole number, not a fraction",
  ],
  ["repos: {kite: {url: x, minIdle: -1}}", ":1:24: repos.kite.minIdle must be at least 0"],
  [
    "repos: {kite: {url: x, minIdle: 3, maxWorkers: 2}}",
    ":1:24: repos.kite.minIdle must not be more than maxWorkers",
  ],
  [
    "defaults: {maxWorkers: 2}\nrepos: {kite: {url: x, minIdle: 3}}",
    ":2:24: repos.kite.minIdle must not be more than maxWorkers",
  ],
  [
    "repos: {kite: {url: x, maxWorkers: 100001}}",
    ":1:24: repos.kite.maxWorkers must be at most 100000",
  ],
  [
    "repos: {kite: {url: x, maxWorkers: .inf}}",
    ":1:24: repos.kite.maxWorkers must be a number, not .inf or .nan",
  ],
  [
    "repos: {kite: {url: x, push: brnch}}",
    ':1:24: repos.kite.push must be one of "branch", "none"',
    "did you mean branch?",
  ],
  ["repos: {kite: {url: x, push: yes}}", ':1:24: repos.kite.push must be one of "branch", "none"'],
  ["repos: {kite: {url: x, flags: --fast}}", ":1:24: repos.kite.flags must be a list, not text"],
  [
    "repos: {kite: {url: x, flags: [a, 3]}}",
    ":1:35: repos.kite.flags[1] must be text, not a number",
  ],
  ["repos: {kite: {url: x, env: {A: 3}}}", ":1:30: repos.kite.env.A must be text, not a number"],
  [
    "repos: {kite: {url: x, env: {A: }}}",
    ":1:30: repos.kite.env.A must be text, not empty",
    "give it a value or remove the line",
  ],
  [
    'repos: {kite: {url: x, env: {A: "a\\nb"}}}',
    ":1:30: repos.kite.env.A must be one line without control characters",
  ],
  [
    "repos: {kite: {url: x, env: {ORCHESTRATOR_RUN: r}}}",
    ":1:30: repos.kite.env.ORCHESTRATOR_RUN is no valid name: it must be letters, digits and underscores, and not begin with ORCHESTRATOR_",
  ],
  [
    "repos: {kite: {url: x, setup: /etc/x}}",
    ":1:24: repos.kite.setup must be a path inside the clone",
  ],
  [
    "repos: {kite: {url: x, setup: a/../../b}}",
    ":1:24: repos.kite.setup must be a path inside the clone",
  ],
  [
    "repos: {kite: {url: x, branch: --upload-pack=x}}",
    ":1:24: repos.kite.branch must be a branch name",
  ],
  ["repos: {kite: {url: '--upload-pack=x'}}", ":1:16: repos.kite.url must be a Git URL or a path"],
  ["repos: {kite: {url: 'ext::sh -c x'}}", ":1:16: repos.kite.url must be a Git URL or a path"],
  [
    "repos: {kite: {url: 'https://tok-SECRET@github.com/a/b'}}",
    ":1:16: repos.kite.url must not hold a credential; use git.deployKey, or a credential helper on the workers",
  ],
  [
    "repos: {kite: {url: 'ssh://me:SECRET@host/a'}}",
    ":1:16: repos.kite.url must not hold a credential; use git.deployKey, or a credential helper on the workers",
  ],
  [
    "defaults: {auth: {kind: api-key, secret: sk-ant-SECRET}}",
    ":1:34: defaults.auth.secret must be env:NAME, file:PATH (absolute or ~/...) or cmd:COMMAND; never the secret itself",
  ],
  [
    "defaults: {auth: {kind: sk-ant-SECRET, secret: 'env:A'}}",
    ':1:19: defaults.auth.kind must be one of "api-key", "auth-token", "oauth-token"',
  ],
  [
    "defaults: {auth: {kind: api-key, secret: 'file:rel'}}",
    ":1:34: defaults.auth.secret must be env:NAME, file:PATH (absolute or ~/...) or cmd:COMMAND; never the secret itself",
  ],
  [
    "defaults: {auth: {kind: api-key, secret: 'env:A', baseUrl: 'javascript:x'}}",
    ":1:51: defaults.auth.baseUrl must be an http or https URL",
  ],
  [
    "defaults: {auth: {kind: api-key, secret: 'env:A', baseUrl: 'https://me:SECRET@h/'}}",
    ":1:51: defaults.auth.baseUrl must not hold a credential",
  ],
  [
    "controller: {parallel: 0, idleExitMinutes: 0}",
    ":1:14: controller.parallel must be at least 1; and 1 more",
  ],
  ["just text", ":1:1: must be a mapping, not text"],
  ["a: 1\na: 2", ":2:1: not valid YAML: a key is there twice"],
  ["repos:\n  kite: {url: x}\n  'kite': {url: y}\n", ":3:3: not valid YAML: a key is there twice"],
  ["repos:\n\tkite: 1", ":2:1: not valid YAML: a tab is used as indentation"],
  [
    'url: "sk-ant-SECRET\nb: 1\n',
    ":3:1: not valid YAML: a quote, bracket, comma, colon or blank is missing",
  ],
  [
    "secret: cmd: echo SECRET",
    ":1:9: not valid YAML: a value with a colon and a blank needs quotes",
  ],
  ["a: 1\nsk-SECRET\nb: 2", ":2:1: not valid YAML: a line has no colon after its key"],
  ["a: 1\n---\nb: 2", ":2:1: not valid YAML: there is more than one document"],
  ["repos: !SECRET {}", ":1:8: not valid YAML: a tag (!...) is not allowed"],
  ["? [a]\n: b", ":1:3: not valid YAML: a key is not a plain text"],
  ["repos: *SECRET", ":1:1: not valid YAML: its aliases have no anchor, or expand to too much"],
  ["repos: &a {kite: *a}", ":1:18: not valid YAML: an alias stands inside its anchor"],
];

test("each mistake is one sentence that names file, place and key, and shows no value", async () => {
  for (const [text, message, hint] of BAD) {
    const error = await errorOf(() => parse(text));
    assert.deepEqual(
      [error.code, error.message, error.hint],
      ["invalid_config", `config.yaml${message}`, hint],
      text,
    );
    assert.doesNotMatch(inspect(error, { depth: 9 }), /SECRET/, text);
  }
});

test("hosts of the provider ssh are a list, and each mistake in it has its place", async () => {
  const { providers } = parse(
    "providers: {ssh: {hosts: [{name: mini}, {name: B.2, jump: [{host: gate, port: 2200}], shared: false}]}}",
  );
  assert.deepEqual(providers.ssh.hosts, [
    { name: "mini", shared: true },
    { name: "B.2", jump: [{ host: "gate", port: 2200 }], shared: false },
  ]);
  const refused = async (host: string) =>
    (await errorOf(() => parse(`providers:\n  ssh:\n    hosts:\n      - ${host}\n`))).message;
  for (const [host, what] of [
    ["{}", "4:9: providers.ssh.hosts[0].name is required"],
    ["{name: a, prot: 1}", "4:19: providers.ssh.hosts[0].prot is not a known key"],
    [
      "{name: a, jump: [{host: b, hops: 1}]}",
      "4:36: providers.ssh.hosts[0].jump[0].hops is not a known key",
    ],
    [
      "{name: -oProxyCommand=x}",
      "4:10: providers.ssh.hosts[0].name must be letters, digits, dots, dashes and underscores",
    ],
    [
      "{name: a, host: user@b}",
      "4:19: providers.ssh.hosts[0].host must be an alias, a host name or an address",
    ],
    [
      "{name: a, identityFile: id}",
      "4:19: providers.ssh.hosts[0].identityFile must be the path of a key file (absolute or ~/...)",
    ],
    [
      "{name: a, hostKey: MD5:x}",
      "4:19: providers.ssh.hosts[0].hostKey must be SHA256:... or a public key (ssh-ed25519 AAAA...)",
    ],
    [
      "{name: a}\n      - {name: a}",
      "5:10: providers.ssh.hosts[1].name is the name of another host of the list",
    ],
  ] as const) {
    assert.equal(await refused(host), `config.yaml:${what}`);
  }
});

test("every problem is in the details, each with its place", async () => {
  const error = await errorOf(() =>
    parse("repos:\n  kite: {url: x, pish: none}\n  lark: {}\ndelivery: {confirmSeconds: fast}\n"),
  );
  assert.equal(error.message, "config.yaml:2:18: repos.kite.pish is not a known key; and 2 more");
  assert.deepEqual(error.details["problems"], [
    {
      path: "repos.kite.pish",
      message: "config.yaml:2:18: repos.kite.pish is not a known key",
      line: 2,
      column: 18,
      hint: "did you mean push?",
    },
    {
      path: "repos.lark.url",
      message: "config.yaml:3:3: repos.lark.url is required",
      line: 3,
      column: 3,
    },
    {
      path: "delivery.confirmSeconds",
      message: "config.yaml:4:12: delivery.confirmSeconds must be a number, not text",
      line: 4,
      column: 12,
    },
  ]);
});

test("a variable of the environment wins over the file, and its mistakes carry its name", async () => {
  const { overrides } = readEnv({ HOME: "/h", ORCHESTRATOR_PARALLEL: "3" });
  assert.equal(
    parseConfig("controller: {parallel: 9}", "f", overrides).config.controller.parallel,
    3,
  );
  for (const [text, message] of [
    ["0", "environment: ORCHESTRATOR_PARALLEL must be at least 1"],
    ["many", "environment: ORCHESTRATOR_PARALLEL must be a number, not text"],
    ["1.5", "environment: ORCHESTRATOR_PARALLEL must be a whole number, not a fraction"],
    ["0x10", "environment: ORCHESTRATOR_PARALLEL must be a number, not text"],
  ] as const) {
    const wrong = readEnv({ HOME: "/h", ORCHESTRATOR_PARALLEL: text });
    assert.equal((await errorOf(() => parseConfig("", "f", wrong.overrides))).message, message);
  }
});

test("bombs of aliases, depth and size are refused quickly", async (t) => {
  const bomb = Array.from(
    { length: 8 },
    (_, n) => `a${n + 1}: &a${n + 1} [${Array(10).fill(`*a${n}`).join(",")}]`,
  );
  assert.match(
    (await errorOf(() => parse(`a0: &a0 [x]\n${bomb.join("\n")}`))).message,
    /expand to too much/,
  );
  assert.match(
    (await errorOf(() => parse(`a: ${"[".repeat(9_999)}`))).message,
    /nested too deeply/,
  );
  const folder = await temporaryFolder(t);
  const path = join(folder, "config.yaml");
  await writeFile(path, `# ${"x".repeat(1024 * 1024)}`);
  const error = await errorOf(() => loadConfig(path, { overrides: [] }));
  assert.equal(error.message, `${path} is larger than 1 MiB`);
});

test("what is no file, no text, or open to every writer is refused by name", async (t) => {
  const folder = await temporaryFolder(t);
  const load = (name: string) => errorOf(() => loadConfig(join(folder, name), { overrides: [] }));
  await mkdir(join(folder, "folder"));
  await writeFile(join(folder, "bytes"), Buffer.from([0x61, 0xff]));
  await writeFile(join(folder, "open"), "");
  await chmod(join(folder, "open"), 0o666);
  await symlink(join(folder, "loop"), join(folder, "loop"));
  await symlink(join(folder, "nowhere"), join(folder, "dangling"));
  await execa("mkfifo", [join(folder, "pipe")]);
  assert.equal((await load("folder")).message, `${join(folder, "folder")} is not a file`);
  assert.equal(
    (await load("dangling")).message,
    `${join(folder, "dangling")} is a link to nothing`,
  );
  assert.equal((await load("pipe")).message, `${join(folder, "pipe")} is not a file`);
  assert.equal((await load("bytes")).message, `${join(folder, "bytes")} is not UTF-8 text`);
  assert.equal(
    (await load("open")).message,
    `${join(folder, "open")} may be written by every user`,
  );
  assert.equal((await load("loop")).message, `${join(folder, "loop")} cannot be read`);
});

test("no text makes the parser throw anything but invalid_config, or show the text", () => {
  const pieces = fc.constantFrom(
    "repos",
    "kite",
    "url",
    ": ",
    "\n",
    "  ",
    "[",
    "}",
    "{",
    "&a ",
    "*a",
    "- ",
    '"',
    "'",
    "|",
    "!x ",
    "? ",
    "#",
    ",",
    "\t",
    "1",
    "~",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(pieces).map((parts) => parts.join("")),
        fc.string(),
      ),
      (text) => {
        try {
          parse(text);
        } catch (error) {
          assert.ok(
            error instanceof Error && "code" in error && error.code === "invalid_config",
            String(error),
          );
        }
      },
    ),
    { numRuns: 500 },
  );
});
