import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
import { test } from "node:test";

import { isAlive } from "../support/agent-window.ts";
import { killPid } from "../support/local-transport.ts";
import { makeWorker, TOOLCHAINS, type TestWorker } from "../support/provision-rig.ts";
import { git, makeRemote, type Fixture } from "../support/repos.ts";
import { until } from "../support/wait.ts";

const run = promisify(execFile);
const base64 = (text: string) => Buffer.from(text).toString("base64");
const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

async function workerWith(fixture: Fixture, env: Record<string, string> = {}) {
  const worker = await makeWorker(env);
  const remote = await makeRemote(join(worker.folder, "r"), fixture, "kite");
  return { worker, remote, params: { REPO_URL: remote.url } };
}

async function fingerprint(worker: TestWorker): Promise<string> {
  const result = await worker.script("fingerprint", "kite");
  assert.equal(result.code, 0, result.stderr);
  return result.stdout.trim().split("\t")[1] ?? "";
}

const failure = (result: {
  code: number | "lost";
  failed: { step: string; tail: readonly string[] } | null;
}) => ({
  code: result.code,
  step: result.failed?.step,
  why: result.failed?.tail.at(-1),
});

const commandLines = () =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(join("/proc", pid, "cmdline"), "latin1")
          .replaceAll("\0", " ")
          .trim();
      } catch {
        return "";
      }
    });

test("owner: the first fleet keeps the worker, another one is refused with 20", async () => {
  await using worker = await makeWorker();
  assert.equal((await worker.job(["owner"])).code, 0);
  assert.equal((await worker.job(["owner"])).code, 0);
  const other = await worker.job(["owner"], { params: { FLEET_ID: "fleet-2" } });
  assert.deepEqual(failure(other), {
    code: 20,
    step: "owner",
    why: "this worker belongs to fleet fleet-1",
  });
});

test("keys: our key is added once, other lines stay, identity and deploy key reach the clones only", async () => {
  const { worker, params } = await workerWith("kite");
  await using _ = worker;
  await mkdir(join(worker.home, ".ssh"));
  await worker.write(".ssh/authorized_keys", "# mine\nssh-rsa BBBB other@host");
  const keys = {
    ...params,
    AUTHORIZED_KEY: "ssh-ed25519 AAAAkey controller",
    GIT_NAME: 'A "quoted" \\ name',
    GIT_EMAIL: "agent@example.invalid",
    DEPLOY_KEY_B64: base64("PRIVATE\n"),
  };
  for (let round = 0; round < 2; round += 1) {
    assert.equal(
      (await worker.job(["keys", ...(round === 0 ? (["clone"] as const) : [])], { params: keys }))
        .code,
      0,
    );
  }
  assert.equal(
    await worker.read(".ssh/authorized_keys"),
    "# mine\nssh-rsa BBBB other@host\nssh-ed25519 AAAAkey controller\n",
  );
  assert.equal(await worker.read(".orchestrator/auth/deploy-key"), "PRIVATE\n");
  const config = async (name: string) =>
    (await worker.transport.exec(["git", "-C", "kite", "config", name])).stdout.trimEnd();
  assert.equal(await config("user.name"), 'A "quoted" \\ name');
  assert.equal(await config("user.email"), "agent@example.invalid");
  assert.match(await config("core.sshCommand"), /auth\/deploy-key/);
  assert.equal(await exists(join(worker.home, ".gitconfig")), false);
});

test("clone: a new clone has the branch asked for, and says what it is", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  const dev = await remote.commit("Develop", { "dev.txt": "x" }, "dev");
  const result = await worker.job(["clone", "branch"], {
    params: { ...params, BRANCH: "dev", RUN_BRANCH: "orchestrator/r" },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  assert.equal(result.facts["clone.base"], dev);
  assert.equal(result.facts["clone.default_branch"], "main");
  assert.equal(result.facts["clone.path"], join(worker.home, "kite"));
  assert.equal(await worker.git("rev-parse", "HEAD"), dev);
  assert.equal(await worker.git("symbolic-ref", "--short", "HEAD"), "orchestrator/r");
});

test("clone: what is wrong is refused with 40, and nothing half-made is left", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  const urls = [
    "https://user:password@example.invalid/x.git",
    "https://token@example.invalid/x.git",
    "ssh://git:password@example.invalid/x.git",
    "ext::sh -c touch% canary",
    "--upload-pack=touch canary",
    "-oProxyCommand=touch canary:x",
    "ssh://-oProxyCommand=touch canary/x",
    "",
    join(worker.folder, "not-there.git"),
  ];
  for (const url of urls) {
    const result = await worker.job(["clone"], { params: { REPO_URL: url } });
    assert.equal(result.code, 40, url);
    assert.ok(!JSON.stringify(result).includes("password@"), "no password is shown");
  }
  for (const branch of [
    "--upload-pack=x",
    "a..b",
    "a b",
    "refs/heads/main",
    "x.lock",
    "@{-1}",
    "a/$(touch canary)~1",
    "not-there",
  ]) {
    const result = await worker.job(["clone"], { params: { ...params, BRANCH: branch } });
    assert.equal(result.code, 40, branch);
  }
  assert.deepEqual((await worker.transport.exec(["ls", "-A"])).stdout, ".orchestrator\n");
  const inside = await worker.job(["clone"], { params: { ...params, BRANCH: "main" } });
  assert.equal(inside.code, 0);
  await remote.git("update-ref", "-d", "refs/heads/main");
});

test("clone: a folder that is not our clone is refused with 40 and left as it is", async () => {
  const { worker, params } = await workerWith("kite");
  await using _ = worker;
  const other = await makeRemote(join(worker.folder, "r"), "sonar");
  await mkdir(join(worker.home, "kite"));
  await worker.write("kite/precious", "x");
  const foreign = await worker.job(["saved", "clone"], { params });
  assert.deepEqual(failure(foreign), {
    code: 40,
    step: "clone",
    why: "~/kite is not a clone of this repository: it was left as it is",
  });
  assert.equal(await worker.read("kite/precious"), "x");
  await rm(join(worker.home, "kite"), { recursive: true });

  await git(worker.home, "clone", "--quiet", other.url, "kite");
  await worker.write("kite/precious", "x");
  const wrong = await worker.job(["saved", "clone"], {
    params: { ...params, SAVED_FINGERPRINT: await fingerprint(worker) },
  });
  assert.deepEqual(failure(wrong), {
    code: 40,
    step: "clone",
    why: "~/kite is a clone of something else: it was left as it is",
  });
  assert.equal(await worker.read("kite/precious"), "x");
  await rm(join(worker.home, "kite"), { recursive: true });

  await worker.write("kite", "a file");
  assert.equal((await worker.job(["clone"], { params })).code, 40);
  assert.equal(await worker.read("kite"), "a file");
});

test("saved and clone: only what was proven saved is reset; ignored files, secrets and run branches stay", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone", "branch"], {
    params: { ...params, RUN_BRANCH: "orchestrator/run-1" },
  });
  await worker.write("kite/README.md", "changed");
  await worker.write("kite/new.txt", "new");
  await worker.write("kite/.env", "SECRET=1");
  await mkdir(join(worker.home, "kite", "deps"));
  await worker.write("kite/deps/ignored", "x");
  const unproven = await worker.job(["saved", "clone"], {
    params: { ...params, SAVED_FINGERPRINT: "" },
  });
  assert.deepEqual(failure(unproven), {
    code: 31,
    step: "saved",
    why: "nothing proves that the work in ~/kite is saved",
  });
  const SAVED_FINGERPRINT = await fingerprint(worker);
  await worker.write("kite/new.txt", "NEW");
  const changed = await worker.job(["saved", "clone"], {
    params: { ...params, SAVED_FINGERPRINT },
  });
  assert.deepEqual(failure(changed), {
    code: 31,
    step: "saved",
    why: "~/kite changed since it was saved",
  });
  assert.equal(await worker.read("kite/new.txt"), "NEW");

  const next = await remote.commit("Next", { "next.txt": "x" });
  const reset = await worker.job(["saved", "clone", "branch"], {
    params: {
      ...params,
      SAVED_FINGERPRINT: await fingerprint(worker),
      RUN_BRANCH: "orchestrator/run-2",
    },
  });
  assert.equal(reset.code, 0, JSON.stringify(reset));
  assert.equal(reset.facts["clone.cloned"], "no");
  assert.equal(await worker.git("rev-parse", "HEAD"), next);
  assert.equal(await worker.git("status", "--porcelain"), "?? .env");
  assert.equal(await worker.read("kite/deps/ignored"), "x");
  assert.equal(
    await worker.git("rev-parse", "orchestrator/run-1"),
    await worker.git("rev-parse", "HEAD~1"),
  );
});

test("clone: work that appears while it fetches is not reset", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone"], { params });
  await worker.write(
    "late",
    '#!/bin/sh\necho late >"$HOME/kite/late.txt"\nexec git-upload-pack "$@"\n',
  );
  await chmod(join(worker.home, "late"), 0o755);
  await worker.git("config", "remote.origin.uploadpack", join(worker.home, "late"));
  await remote.commit("Next", { "next.txt": "x" });
  const result = await worker.job(["saved", "clone"], {
    params: { ...params, SAVED_FINGERPRINT: await fingerprint(worker) },
  });
  assert.deepEqual(failure(result), {
    code: 31,
    step: "saved",
    why: "~/kite changed since it was saved",
  });
  assert.equal(await worker.read("kite/late.txt"), "late\n");
});

test("clone: tags that come with the fetch do not count as a change", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone"], { params });
  await worker.git("tag", "mine");
  const SAVED_FINGERPRINT = await fingerprint(worker);
  const next = await remote.commit("Release", { "next.txt": "x" });
  await remote.git("tag", "v1", next);
  await remote.git("tag", "v1.0", next);
  const result = await worker.job(["saved", "clone"], { params: { ...params, SAVED_FINGERPRINT } });
  assert.equal(result.code, 0, JSON.stringify(result));
  assert.equal(await worker.git("tag"), "mine\nv1\nv1.0");
  assert.notEqual(await fingerprint(worker), SAVED_FINGERPRINT);
});

test("clone: a fetch that failed at first is tried again, and then the proof too", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone"], { params });
  // Fails once, then writes into the clone.
  await worker.write(
    "flaky",
    '#!/bin/sh\n[ -e "$HOME/once" ] || { touch "$HOME/once"; exit 1; }\necho late >"$HOME/kite/late.txt"\nexec git-upload-pack "$@"\n',
  );
  await chmod(join(worker.home, "flaky"), 0o755);
  await worker.git("config", "remote.origin.uploadpack", join(worker.home, "flaky"));
  await remote.commit("Next", { "next.txt": "x" });
  const result = await worker.job(["saved", "clone"], {
    params: { ...params, SAVED_FINGERPRINT: await fingerprint(worker) },
  });
  assert.deepEqual(failure(result), {
    code: 31,
    step: "clone",
    why: "~/kite changed since it was saved",
  });
  assert.equal(await worker.read("kite/late.txt"), "late\n");
});

test("clone: a rebase in progress, a conflict, a detached HEAD and dead locks do not keep a saved clone from its reset", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone", "branch"], {
    params: { ...params, RUN_BRANCH: "orchestrator/run-1" },
  });
  await worker.write("kite/README.md", "mine\n");
  await worker.git("commit", "--quiet", "--all", "--message=Mine");
  const theirs = await remote.commit("Theirs", { "README.md": "theirs\n" });
  await worker.git("fetch", "--quiet", "origin");
  await assert.rejects(worker.git("rebase", "origin/main"));
  await worker.write("kite/.git/index.lock", "");
  await rm(join(worker.home, "kite", ".git", "index.lock"));
  const SAVED_FINGERPRINT = await fingerprint(worker);
  await worker.write("kite/.git/index.lock", "");
  await worker.write("kite/.git/HEAD.lock", "");
  const reset = await worker.job(["saved", "clone", "branch"], {
    params: { ...params, SAVED_FINGERPRINT, RUN_BRANCH: "orchestrator/run-2" },
  });
  assert.equal(reset.code, 0, JSON.stringify(reset));
  assert.equal(await worker.git("rev-parse", "HEAD"), theirs);
  assert.match(await worker.git("status"), /nothing to commit/);
  assert.doesNotMatch(await worker.git("status"), /rebase/);
});

test("clone: without `saved` in the job an existing clone is fetched and not touched", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone"], { params });
  await worker.write("kite/README.md", "changed");
  const next = await remote.commit("Next", { "next.txt": "x" });
  const result = await worker.job(["clone"], { params });
  assert.equal(result.facts["clone.base"], next);
  assert.equal(await worker.read("kite/README.md"), "changed");
});

test("clone and branch: no hook of the repository runs", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await worker.job(["clone"], { params });
  for (const hook of [
    "post-checkout",
    "reference-transaction",
    "post-index-change",
    "post-rewrite",
  ]) {
    const path = join(worker.home, "kite", ".git", "hooks", hook);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, `#!/bin/sh\ntouch "$HOME/canary"\n`);
    await chmod(path, 0o755);
  }
  await worker.git("config", "core.fsmonitor", `touch ${worker.home}/canary`);
  await remote.commit("Next", { "next.txt": "x" });
  const result = await worker.job(["saved", "clone", "branch"], {
    params: {
      ...params,
      SAVED_FINGERPRINT: await fingerprint(worker),
      RUN_BRANCH: "orchestrator/run-1",
    },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  assert.equal(
    (await worker.script("save", await version(worker), "1", "run-1", "1", "kite")).code,
    0,
  );
  assert.equal(await exists(join(worker.home, "canary")), false);
});

const version = async (worker: TestWorker) =>
  (await worker.read(".orchestrator/bin/VERSION")).trim();

test("clone: a full disk is refused with 40 and leaves nothing behind", async (context) => {
  if (process.getuid?.() !== 0)
    return context.skip("a small file system can be mounted by root only");
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  const { randomBytes } = await import("node:crypto");
  await remote.commit("Grow", { "large.bin": randomBytes(3_000_000).toString("base64") });
  const small = await mkdtemp(join(tmpdir(), "so-small-"));
  try {
    await run("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", small]);
  } catch (error) {
    await rm(small, { recursive: true });
    return context.skip(`no file system could be mounted: ${String(error)}`);
  }
  try {
    const transport = worker.connect();
    const script = 'HOME=$1; export HOME; cd "$HOME" && shift && exec "$@"';
    await transport.exec(["cp", "-a", ".orchestrator", small]);
    const argv = [".orchestrator/bin/job", await version(worker), "1", "job-a", "clone"];
    const result = await transport.exec(["sh", "-c", script, "sh", small, ...argv], {
      stdin: `REPO=kite\nREPO_URL=${params.REPO_URL}\nEND\n`,
    });
    assert.match(result.stdout, /\nfail\tclone\t\d+\t40\n/);
    assert.match(result.stdout, /\nend\t40\n$/);
    const left = await transport.exec(["ls", "-A", small]);
    assert.equal(left.stdout, ".orchestrator\n");
  } finally {
    await run("umount", [small]);
    await rm(small, { recursive: true });
  }
  return undefined;
});

test("setup: both example repositories are set up, and only again when the script or a lock file changes", async () => {
  for (const fixture of ["kite", "sonar"] as const) {
    // Stand-ins first: no test needs the network.
    const { worker, remote, params } = await workerWith(fixture, {
      PATH: `${TOOLCHAINS}:${process.env["PATH"]}`,
    });
    await using _ = worker;
    const setUp = async (job: string) => {
      const clone = await exists(join(worker.home, "kite"));
      const result = await worker.job(["saved", "clone", "setup"], {
        job,
        params: { ...params, SAVED_FINGERPRINT: clone ? await fingerprint(worker) : "" },
      });
      assert.equal(result.code, 0, JSON.stringify(result));
      return result.lines.at(-1)?.kind;
    };
    assert.equal(await setUp("job-a"), "done");
    assert.match(
      await worker.read(".orchestrator/jobs/job-a/setup.log"),
      /Setting up (Elixir|Python) environment[^]*✅ Ready\n$/,
    );
    assert.equal(await setUp("job-b"), "skip");
    await remote.commit("Other", { "README.md": "other" });
    assert.equal(await setUp("job-c"), "skip");
    await remote.commit("Lock", { "sub/package-lock.json": "{}" });
    assert.equal(await setUp("job-d"), "done");
    await rm(join(worker.home, "kite"), { recursive: true });
    assert.equal(await setUp("job-e"), "done", "a new clone is set up anew");
    await rm(join(worker.home, "kite"), { recursive: true });
    await git(worker.home, "clone", "--quiet", remote.url, "kite");
    assert.equal(await setUp("job-f"), "done", "and so is one that a person made");
  }
});

test("setup: absent is skipped, not executable is run by bash, a failure is 50 with its last lines and is retried", async () => {
  const none = await workerWith("no-script");
  await using _none = none.worker;
  const skipped = await none.worker.job(["clone", "setup"], { params: none.params });
  const skip = skipped.lines.at(-1);
  assert.equal(skip?.kind === "skip" && skip.why, "there is no scripts/dev-setup.sh");

  const plain = await workerWith("not-executable");
  await using _plain = plain.worker;
  assert.equal(
    (await plain.worker.job(["clone", "setup"], { job: "job-a", params: plain.params })).code,
    0,
  );
  assert.equal(await plain.worker.read(".orchestrator/jobs/job-a/setup.log"), "up and ready\n");

  const failing = await workerWith("failing");
  await using _failing = failing.worker;
  const failed = await failing.worker.job(["clone", "setup"], { params: failing.params });
  assert.equal(failed.code, 50);
  assert.deepEqual(failed.failed?.tail, [
    "fetching things",
    "the package index cannot be reached",
    "scripts/dev-setup.sh ended with exit code 3",
  ]);
  await failing.worker.write("kite/scripts/dev-setup.sh", "#!/bin/sh\nexit 0\n");
  assert.equal(
    (await failing.worker.job(["setup"])).code,
    0,
    "from there, after it was mended in place",
  );
});

test("setup: the environment is the repository's, and a value is only a value", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await remote.commit("Env", {
    "scripts/dev-setup.sh":
      '#!/bin/sh\nprintf "%s|%s|%s\\n" "$PLAIN" "$TRICKY" "${AUTH_B64-unset}"\nenv\n',
  });
  const result = await worker.job(["clone", "setup"], {
    job: "job-a",
    params: {
      ...params,
      AUTH_B64: base64("T=secret"),
      ENV_B64: base64("PLAIN=a b\nTRICKY=$(touch canary)'\"=\\"),
    },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  const log = await worker.read(".orchestrator/jobs/job-a/setup.log");
  assert.equal(log.split("\n")[0], "a b|$(touch canary)'\"=\\|unset");
  assert.ok(!log.includes("GIT_CONFIG_COUNT") && !log.includes("GIT_ASKPASS"));
  const bad = await worker.job(["setup"], { params: { ...params, SETUP: "../evil.sh" } });
  assert.equal(bad.code, 64);
});

test("setup: what takes too long is ended with all that it started, and is 51 with its last lines", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  const begun = (name: string) => `sh -c 'echo $$ >"$HOME/pids/${name}"; exec sleep 1000'`;
  await remote.commit("Hang", {
    "scripts/dev-setup.sh": `#!/bin/bash
trap '' TERM
echo "fetching the world"
mkdir -p "$HOME/pids"
${begun("child")} &
setsid ${begun("session")} &
env -i HOME="$HOME" PATH="$PATH" ${begun("bare")} &
echo $$ >"$HOME/pids/script"
while :; do read -rt 0.05 <> <(:) || :; done
`,
  });
  const stranger = spawn("sleep", ["1000"], { env: { HOME: worker.home } });
  try {
    const result = await worker.job(["clone", "setup"], { params: { ...params, SETUP_S: "3" } });
    assert.equal(result.code, 51, JSON.stringify(result));
    assert.deepEqual(result.failed?.tail, [
      "fetching the world",
      "scripts/dev-setup.sh was ended: it took longer than 3 s (setupMinutes)",
    ]);
    const names = await readdir(join(worker.home, "pids"));
    assert.deepEqual(names.sort(), ["bare", "child", "script", "session"]);
    for (const name of names) {
      const pid = Number(await worker.read(`pids/${name}`));
      assert.equal(isAlive(pid), false, name);
    }
    assert.ok(isAlive(stranger.pid ?? 0));
  } finally {
    stranger.kill();
  }
});

test("setup: what is in time keeps what it started, and nothing waits for the time to pass", async () => {
  const { worker, remote, params } = await workerWith("kite");
  await using _ = worker;
  await remote.commit("Serve", {
    "scripts/dev-setup.sh": '#!/bin/sh\nsleep 999 >/dev/null 2>&1 &\necho $! >"$HOME/served"\n',
  });
  const result = await worker.job(["clone", "setup"], { params: { ...params, SETUP_S: "900123" } });
  assert.equal(result.code, 0, JSON.stringify(result));
  const served = Number(await worker.read("served"));
  try {
    assert.ok(isAlive(served));
    await until(() => commandLines().every((line) => line !== "sleep 900123"), {
      what: "the end of the watch",
    });
  } finally {
    killPid(served);
  }
});

test("agent: found, installed, its version asked once a file; missing is 60", async () => {
  const { worker, params } = await workerWith("kite");
  await using _ = worker;
  const program = '#!/bin/sh\necho asked >>"$HOME/asked"\necho "9.9 (Agent)"\n';
  const install = `mkdir -p ~/.local/bin; printf '%s' '${program}' >~/.local/bin/agent9; chmod +x ~/.local/bin/agent9`;
  const missing = await worker.job(["agent"], { params: { ...params, COMMAND: "agent9" } });
  assert.deepEqual(failure(missing), {
    code: 60,
    step: "agent",
    why: "agent9 is not on this worker",
  });
  const broken = await worker.job(["agent"], {
    params: { ...params, COMMAND: "agent9", INSTALL_B64: base64("exit 4") },
  });
  assert.equal(broken.code, 60);
  for (let round = 0; round < 2; round += 1) {
    const found = await worker.job(["agent"], {
      params: {
        ...params,
        COMMAND: "agent9",
        INSTALL_B64: base64(install),
        AUTH_B64: base64("TOKEN=a b=c"),
      },
    });
    assert.equal(found.code, 0, JSON.stringify(found));
    assert.deepEqual(found.facts, {
      "agent.program": join(worker.home, ".local/bin/agent9"),
      "agent.version": "9.9 (Agent)",
    });
  }
  assert.equal(await worker.read("asked"), "asked\n");
  assert.equal(await worker.read(".orchestrator/auth/kite.env"), "TOKEN=a b=c\n");
  await worker.job(["agent"], { params: { ...params, COMMAND: "agent9", AUTH_B64: "" } });
  assert.equal(await exists(join(worker.home, ".orchestrator/auth/kite.env")), false);
});

test("session: the windows are made once, what is missing is made again, the server's environment is clean", async () => {
  const { worker, params } = await workerWith("kite", {
    ORCHESTRATOR_WORKER: "kite-1",
    SECRET_OF_LOGIN: "x",
  });
  await using _ = worker;
  const windows = async () =>
    (
      await worker.tmux(
        "list-windows",
        "-t",
        "=kite-dev",
        "-F",
        "#{window_index} #{window_name} #{window_id}",
      )
    ).split("\n");
  const first = await worker.job(["clone", "session"], { params });
  assert.equal(first.code, 0, JSON.stringify(first));
  const made = await windows();
  assert.deepEqual(
    made.map((line) => line.replace(/ @\d+$/, "")),
    ["0 shell", "1 agent:waiting", "2 guard"],
  );
  assert.equal(made[1]?.split(" ").at(-1), first.facts["session.window"]);
  const again = await worker.job(["session"], { params });
  assert.deepEqual(again.facts, { "session.window": first.facts["session.window"] });
  assert.deepEqual(await windows(), made);
  assert.equal(
    await worker.tmux(
      "show-options",
      "-wv",
      "-t",
      first.facts["session.window"] ?? "",
      "remain-on-exit",
    ),
    "on",
  );

  const environment = await worker.tmux("show-environment", "-g");
  assert.match(environment, /^ORCHESTRATOR_WORKER=kite-1$/m);
  assert.doesNotMatch(environment, /SECRET_OF_LOGIN|ORCHESTRATOR_JOB|GIT_/);

  await worker.tmux("rename-window", "-t", first.facts["session.window"] ?? "", "agent:completed");
  await worker.tmux("kill-window", "-t", "=kite-dev:2");
  await worker.tmux("kill-window", "-t", "=kite-dev:0");
  const mended = await worker.job(["session"], { params });
  assert.equal(mended.facts["session.window"], first.facts["session.window"]);
  assert.deepEqual(
    (await windows()).map((line) => line.replace(/ @\d+$/, "")),
    ["0 shell", "1 agent:completed", "2 guard"],
  );
});

test("session: a job ends although the server it started lives on", async () => {
  const { worker, params } = await workerWith("kite");
  await using _ = worker;
  const result = await worker.job(["session"], { params, timeoutMs: 20_000 });
  assert.equal(result.code, 0);
  await worker.tmux("has-session", "-t", "=kite-dev");
  assert.deepEqual(worker.transport.running(), []);
});

test("idle: a free session passes; a client, a turn, a dialog or a stranger's program is 30 with its reason", async () => {
  const { worker, params } = await workerWith("kite");
  await using _ = worker;
  const idle = async () => {
    const result = await worker.job(["idle"], { params });
    return result.code === 0 ? "idle" : `${result.code} ${result.facts["idle.busy"]}`;
  };
  assert.equal(await idle(), "idle", "no session yet");
  const made = await worker.job(["session"], { params });
  const window = made.facts["session.window"] ?? "";
  assert.equal(await idle(), "idle", "no agent yet");

  await worker.tmux("respawn-window", "-k", "-t", window, "exec sleep 1000");
  assert.equal(await idle(), "30 a program that is not ours runs in the agent's window");

  const pid = await worker.tmux("display-message", "-p", "-t", window, "#{pane_pid}");
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /, "").split(" ");
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  await mkdir(join(worker.home, ".orchestrator/runs/run-1"), { recursive: true });
  await worker.write(".orchestrator/runs/run-1/launch-1", `${pid} ${fields[19]} ${boot} %1\n`);
  await worker.write(".orchestrator/current", "run-1 1\n");
  await worker.tmux("rename-window", "-t", window, "agent:completed");
  assert.equal(await idle(), "idle", "our agent, finished");
  await worker.tmux("rename-window", "-t", window, "agent:running");
  assert.equal(await idle(), "30 the agent is in a turn");
  await worker.tmux(
    "rename-window",
    "-t",
    window,
    "agent:error",
    ";",
    "set-option",
    "-w",
    "-t",
    window,
    "@status",
    "blocked",
  );
  assert.equal(await idle(), "30 the agent is blocked");
  await worker.tmux("set-option", "-w", "-t", window, "@status", "completed");
  await mkdir(join(worker.home, ".claude/sessions"), { recursive: true });
  await worker.write(`.claude/sessions/${pid}.json`, `{"pid":${pid},"status":"shell"}`);
  assert.equal(await idle(), "30 the agent has a background task");
  await rm(join(worker.home, ".claude"), { recursive: true });
  assert.equal(await idle(), "idle");

  const attached = spawn(
    "script",
    ["-qfec", "stty rows 40 cols 100; exec tmux -u attach -t =kite-dev", "/dev/null"],
    {
      env: {
        ...process.env,
        HOME: worker.home,
        TMUX_TMPDIR: join(worker.folder, "t"),
        TERM: "xterm",
        TMUX: undefined,
      },
      stdio: ["pipe", "ignore", "ignore"],
    },
  );
  try {
    await until(async () => (await worker.tmux("list-clients", "-t", "=kite-dev")) !== "", {
      what: "the client",
    });
    assert.equal(await idle(), "30 somebody is attached to the session");
  } finally {
    if (attached.pid !== undefined) killPid(attached.pid);
  }
});
