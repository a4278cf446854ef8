import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { mkdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { isOrchestratorError } from "../support/errors.ts";
import { killPid } from "../support/local-transport.ts";
import { bundle, makeWorker, type TestWorker } from "../support/provision-rig.ts";
import { makeRemote } from "../support/repos.ts";
import { until } from "../support/wait.ts";

/** A repository whose set-up says that it runs, waits until the file `go` is there, then says that it ended. */
const WAITING_SETUP = `#!/bin/bash
echo begin >>"$HOME/setups"
sleep 1000 & waiter=$!
echo "$waiter" >"$HOME/waiter"
while [ ! -e "$HOME/go" ]; do read -rt 0.02 <> <(:) || :; done
kill "$waiter"
echo end >>"$HOME/setups"
`;

async function waitingWorker(): Promise<{ worker: TestWorker; params: Record<string, string> }> {
  const worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  await remote.commit("Wait", { "scripts/dev-setup.sh": WAITING_SETUP });
  return {
    worker,
    params: { REPO_URL: remote.url, BRANCH: "main", RUN_BRANCH: "orchestrator/run-1" },
  };
}

const lines = (text: string) => text.split("\n").filter((line) => line !== "");
const runnerOf = async (worker: TestWorker, job: string) =>
  Number((await worker.read(`.orchestrator/jobs/${job}/gate`)).split(" ")[0]);
const isAlive = async (pid: number) =>
  !/\) [ZX] /.test(await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") X "));

test("a job runs its steps in order, and calling it again shows the same without running them", async () => {
  await using worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  const params = {
    REPO_URL: remote.url,
    RUN_BRANCH: "orchestrator/run-1",
    COMMAND: "sh",
    AUTHORIZED_KEY: "ssh-ed25519 AAAA us",
  };
  const steps = [
    "owner",
    "keys",
    "idle",
    "saved",
    "clone",
    "branch",
    "setup",
    "agent",
    "session",
  ] as const;
  const first = await worker.job(steps, { job: "job-a", params });
  assert.equal(first.code, 0, JSON.stringify(first));
  assert.equal(first.failed, null);
  assert.equal(first.home, worker.home);
  assert.deepEqual(
    first.lines.flatMap((line) =>
      line.kind === "done" || line.kind === "skip" ? [line.step] : [],
    ),
    steps,
  );
  assert.equal(first.facts["clone.base"], await remote.git("rev-parse", "main"));
  assert.equal(first.facts["clone.cloned"], "yes");
  assert.equal(first.facts["branch.branch"], "orchestrator/run-1");
  assert.match(first.facts["session.window"] ?? "", /^@\d+$/);

  const log = await worker.read(".orchestrator/jobs/job-a/setup.log");
  const again = await worker.job(steps, { job: "job-a", params });
  assert.deepEqual(again.lines, first.lines);
  assert.equal(await worker.read(".orchestrator/jobs/job-a/setup.log"), log);
});

test("two callers at once run each step once, and both see all of it", async () => {
  const { worker, params } = await waitingWorker();
  await using _ = worker;
  const steps = ["owner", "clone", "setup"] as const;
  const both = [1, 2, 3].map(() =>
    worker.job(steps, { job: "job-a", params, transport: worker.connect() }),
  );
  await until(() => worker.read("setups").catch(() => null), { what: "the set-up" });
  await worker.write("go", "");
  const results = await Promise.all(both);
  for (const result of results) {
    assert.equal(result.code, 0, JSON.stringify(result));
    assert.deepEqual(result.lines, results[0]?.lines);
  }
  assert.deepEqual(lines(await worker.read("setups")), ["begin", "end"]);
});

test("a job goes on when the connection is cut, and can be followed again", async () => {
  const { worker, params } = await waitingWorker();
  await using _ = worker;
  const steps = ["owner", "clone", "setup"] as const;
  const cut = worker.connect();
  const lost = worker.job(steps, { job: "job-a", params, transport: cut });
  const rejected = assert.rejects(lost, /cut/);
  await until(() => worker.read("setups").catch(() => null), { what: "the set-up" });
  cut.cut();
  await rejected;
  const again = worker.job(steps, { job: "job-a", params });
  await worker.write("go", "");
  const result = await again;
  assert.equal(result.code, 0, JSON.stringify(result));
  assert.deepEqual(
    result.lines.map((line) => line.kind),
    ["worker", "start", "done", "start", ...Array(4).fill("fact"), "done", "start", "done"],
  );
  assert.deepEqual(lines(await worker.read("setups")), ["begin", "end"]);
});

test("a killed runner is reported as lost, what it started is ended, and a new job finishes", async () => {
  const { worker, params } = await waitingWorker();
  await using _ = worker;
  const steps = ["owner", "clone", "setup"] as const;
  const first = worker.job(steps, { job: "job-a", params });
  const waiter = Number(
    await until(() => worker.read("waiter").catch(() => ""), { what: "the set-up" }),
  );
  killPid(await runnerOf(worker, "job-a"));
  const result = await first;
  assert.equal(result.code, "lost");
  assert.equal(await isAlive(waiter), false, "the set-up's child was ended");
  const again = await worker.job(steps, { job: "job-a", params });
  assert.equal(again.code, "lost");
  assert.deepEqual(lines(await worker.read("setups")), ["begin"], "nothing ran again in that job");

  await worker.write("go", "");
  const next = await worker.job(["owner", "setup"], { job: "job-b", params });
  assert.equal(next.code, 0, JSON.stringify(next));
});

test("a runner killed at any moment never runs a step twice, and a new job always finishes", async () => {
  await using worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  await remote.commit("Count", {
    "scripts/dev-setup.sh": '#!/bin/sh\necho "$ORCHESTRATOR_JOB" >>"$HOME/setups"\n',
  });
  const params = { REPO_URL: remote.url, BRANCH: "main", COMMAND: "sh" };
  let fingerprint = "";
  for (let round = 0; round < 9; round += 1) {
    const job = `job-${round}`;
    const steps = ["owner", "saved", "clone", "branch", "setup", "agent", "session"] as const;
    const all = { ...params, SAVED_FINGERPRINT: fingerprint, RUN_BRANCH: `orchestrator/${round}` };
    // Each round kills after one line more.
    let seen = 0;
    const result = await worker.job(steps, {
      job,
      params: all,
      onLine: () => {
        seen += 1;
        if (seen === round + 1) void runnerOf(worker, job).then(killPid, () => {});
      },
    });
    assert.ok(result.code === 0 || result.code === "lost", JSON.stringify(result));
    const again = await worker.job(steps, { job, params: all });
    assert.equal(again.code, result.code);
    const starts = again.lines.flatMap((line) => (line.kind === "start" ? [line.step] : []));
    assert.equal(new Set(starts).size, starts.length, "no step began twice");

    fingerprint = (await worker.script("fingerprint", "kite")).stdout.trim().split("\t")[1] ?? "";
    const healed = { ...all, SAVED_FINGERPRINT: fingerprint };
    const next = await worker.job(steps, { job: `${job}-next`, params: healed });
    assert.equal(next.code, 0, `${round}: ${JSON.stringify(next)}`);
    fingerprint = (await worker.script("fingerprint", "kite")).stdout.trim().split("\t")[1] ?? "";
  }
  const setups = lines(await worker.read("setups"));
  assert.equal(new Set(setups).size, setups.length, `once in a job: ${setups.join(" ")}`);
  assert.deepEqual(
    readdirSync(worker.home).filter((name) => name.includes("cloning")),
    [],
  );
});

test("what a killed runner left is ended even while it execs all the time, and a stranger of its session is spared", async () => {
  await using worker = await makeWorker();
  // Within an exec a process shows an empty environment: one look in ten misses this one.
  await worker.write(".orchestrator/bin/chain", `exec sh "$0"\n`);
  await worker.write(
    ".orchestrator/bin/try",
    `. "\${0%/*}/lib.sh"
chain=\${0%/*}/chain
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40; do
  ORCHESTRATOR_JOB=job-$turn setsid sh -c 'env -u ORCHESTRATOR_JOB sh -c "echo \\$\\$ >stranger; exec sleep 1000" & exec sh "$0"' "$chain" &
  pid=$!
  until [ -s "$HOME/stranger" ]; do sleep 0.01; done
  read -r stranger <"$HOME/stranger"
  rm "$HOME/stranger"
  proc_stat $pid
  end_session "$PROC_SESSION" "job-$turn"
  proc_stat $pid && case $PROC_STATE in Z) ;; *) echo "turn $turn: $pid is left" ;; esac
  kill -s KILL "$stranger" || echo "turn $turn: the stranger was ended"
  kill -s KILL $pid 2>/dev/null
done
echo done
`,
  );
  const tried = await worker.transport.exec(["sh", ".orchestrator/bin/try"], {
    timeoutMs: 120_000,
  });
  assert.equal(tried.stdout, "done\n", tried.stderr);
});

test("a stale epoch is refused, and a job that is overtaken stops", async () => {
  const { worker, params } = await waitingWorker();
  await using _ = worker;
  const old = worker.job(["owner", "clone", "setup", "session"], {
    job: "job-old",
    epoch: 3,
    params,
  });
  const overtaken = assert.rejects(old, isOrchestratorError("lease_stale"));
  await until(() => worker.read("waiter").catch(() => null), { what: "the set-up" });
  const young = await worker.job(["owner"], { job: "job-young", epoch: 12, params });
  assert.equal(young.code, 0);
  await overtaken;
  await assert.rejects(
    worker.job(["owner"], { job: "job-late", epoch: 11, params }),
    (error: unknown) => {
      assert.ok(isOrchestratorError("lease_stale")(error));
      assert.equal((error as { details: Record<string, unknown> }).details["highest_epoch"], 12);
      return true;
    },
  );
  await assert.rejects(
    worker.script("job", bundle.hash, "4", "job-old", "owner").then((result) => {
      assert.equal(result.code, 75);
      assert.equal(result.stdout, "fenced\t12\n");
      throw new Error("refused");
    }),
    /refused/,
  );
  await assert.rejects(worker.tmux("has-session", "-t", "kite-dev"), "no step ran after the fence");
});

test("a job whose epoch another script overtook begins no further step", async () => {
  const { worker, params } = await waitingWorker();
  await using _ = worker;
  const old = worker.job(["clone", "setup", "session"], { job: "job-old", epoch: 3, params });
  const overtaken = assert.rejects(old, isOrchestratorError("lease_stale"));
  await until(() => worker.read("waiter").catch(() => null), { what: "the set-up" });
  assert.equal((await worker.script("save", bundle.hash, "4", "run-1", "1", "kite")).code, 0);
  await worker.write("go", "");
  await overtaken;
  assert.match(
    await worker.read(".orchestrator/jobs/job-old/progress"),
    /\ndone\tsetup\t\d+\nend\t75\n$/,
  );
});

test("parameters that were cut short start nothing", async () => {
  await using worker = await makeWorker();
  const argv = [".orchestrator/bin/job", bundle.hash, "1", "job-a", "owner"];
  const cut = await worker.transport.exec(argv, { stdin: "FLEET_ID=fleet-1\nREPO=ki" });
  assert.equal(cut.code, 64);
  const result = await worker.job(["owner"], { job: "job-a" });
  assert.equal(result.code, 0);
  assert.equal(await worker.read(".orchestrator/owner"), "fleet-1\n");
});

test("secrets stay out of what a job keeps, but for the credential file", async () => {
  await using worker = await makeWorker();
  const remote = await makeRemote(join(worker.folder, "r"), "kite");
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const secret = "s3cr3t-token";
  const result = await worker.job(["owner", "clone", "setup", "agent", "session"], {
    params: {
      REPO_URL: remote.url,
      COMMAND: "sh",
      AUTH_B64: base64(`API_KEY=${secret}`),
      ENV_B64: base64(`DEPLOY_TOKEN=${secret}`),
    },
  });
  assert.equal(result.code, 0, JSON.stringify(result));
  const found = await worker.transport.exec([
    "grep",
    "-rlE",
    `${secret}|${base64(`API_KEY=${secret}`)}`,
    ".",
  ]);
  assert.equal(found.stdout, "./.orchestrator/auth/kite.env\n");
  const mode = await worker.transport.exec(["stat", "-c", "%a", ".orchestrator/auth/kite.env"]);
  assert.equal(mode.stdout, "600\n");
  assert.ok(!JSON.stringify(result).includes(secret));
});

test("a job runs on from the bundle it began with while another one is installed", async () => {
  const { worker, params } = await waitingWorker();
  await using _ = worker;
  const running = worker.job(["owner", "clone", "setup", "session"], { job: "job-a", params });
  await until(() => worker.read("waiter").catch(() => null), { what: "the set-up" });
  const other = join(worker.home, ".orchestrator", "bundles", "other");
  await mkdir(other);
  await writeFile(join(other, "VERSION"), "other\n");
  await symlink("bundles/other", join(worker.home, ".orchestrator", "new"));
  await worker.transport.exec(["mv", "-T", ".orchestrator/new", ".orchestrator/bin"]);
  await worker.write("go", "");
  const result = await running;
  assert.equal(result.code, 0, JSON.stringify(result));
  assert.match(await readlink(join(worker.home, ".orchestrator", "bin")), /other/);
});
