/*
 * The main job, for real, on this machine and without an account: a sample repository, workers with their own sshd and tmux, a task from
 * dispatch to its diff, and a second task that finds the worker warm. `--keep` leaves everything running to look around.
 */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");
const PROGRAM = [process.execPath, join(ROOT, "src", "main.ts")] as const;
const CREDENTIALS = [
  ["CLAUDE_CODE_OAUTH_TOKEN", "oauth-token"],
  ["ANTHROPIC_AUTH_TOKEN", "auth-token"],
  ["ANTHROPIC_API_KEY", "api-key"],
] as const;

const keep = process.argv.includes("--keep");
const place = mkdtempSync(join(tmpdir(), "orchestrator-demo-"));
const home = join(place, "home");
const env: NodeJS.ProcessEnv = { ...process.env, ORCHESTRATOR_HOME: home };

const bold = (text: string) => (process.stdout.isTTY ? `\u001b[1m${text}\u001b[0m` : text);
const say = (text = "") => console.log(text);
const title = (text: string) => say(`\n${bold(`== ${text}`)}`);

/** Runs the orchestrator as a person would, with its output shown. */
function orchestrator(...args: string[]): Promise<number> {
  say(
    `\n$ orchestrator ${args.map((arg) => (/^[\w./:=@-]+$/.test(arg) ? arg : JSON.stringify(arg))).join(" ")}`,
  );
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM[0], [PROGRAM[1], ...args], {
      env,
      stdio: ["ignore", "inherit", "inherit"],
    });
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}

async function must(...args: string[]): Promise<void> {
  const code = await orchestrator(...args);
  if (code !== 0) throw new Error(`'orchestrator ${args[0] ?? ""}' ended with exit code ${code}`);
}

function makeRemote(): string {
  const work = join(place, "greeter");
  const remote = join(place, "greeter.git");
  cpSync(join(import.meta.dirname, "sample"), work, { recursive: true });
  const git = (...args: string[]) =>
    execFileSync(
      "git",
      ["-c", "user.name=Demo", "-c", "user.email=demo@example.invalid", ...args],
      { cwd: work, stdio: "ignore" },
    );
  git("init", "-q", "-b", "main");
  git("add", "-A");
  git("commit", "-q", "-m", "Begin the greeter");
  git("clone", "-q", "--bare", work, remote);
  return remote;
}

interface Choice {
  readonly runtime: "claude" | "shell";
  readonly repoFlags: readonly string[];
  readonly tasks: readonly [string, string];
  readonly why: string;
}

function chooseRuntime(): Choice {
  const credential = CREDENTIALS.find(([name]) => (process.env[name] ?? "") !== "");
  const installed = (process.env["PATH"] ?? "")
    .split(":")
    .some((folder) => existsSync(join(folder, "claude")));
  if (credential !== undefined && installed) {
    const [name, kind] = credential;
    return {
      runtime: "claude",
      repoFlags: ["--permission-mode", "acceptEdits", "--auth", kind, "--secret", `env:${name}`],
      tasks: [
        "greet.sh greets everybody as world. Make it greet the NAME given as first argument, and commit.",
        "Say in README.md what greet.sh does without an argument, and commit.",
      ],
      why: `Claude Code is installed and ${name} is set: it runs in the permission mode acceptEdits (it edits files without asking, and asks before commands).`,
    };
  }
  const missing = installed ? "no credential for it is set" : "Claude Code is not installed";
  return {
    runtime: "shell",
    repoFlags: [],
    tasks: [
      `sed -i 's/world/\${1:-world}/; /BUG/d' greet.sh && sh greet.sh Ada && git commit -qam "Greet the person who was named"`,
      `echo "Without a NAME it greets the world." >> README.md && git commit -qam "Say what happens without a name" && git log --oneline -1`,
    ],
    why: `${missing}, so the shell runtime runs: the task is a shell command, and its exit code is the truth.`,
  };
}

async function demo(): Promise<void> {
  const { runtime, repoFlags, tasks, why } = chooseRuntime();
  title(`A pool for the repository "greeter" (runtime: ${runtime})`);
  say(why);
  await must("repo", "add", "greeter", "--url", makeRemote(), "--runtime", runtime, ...repoFlags);

  title("First task: there is no worker yet, so one is made");
  const began = performance.now();
  await must("--repo", "greeter", "--command", tasks[0], "--wait");
  const first = performance.now() - began;

  title("What the agent changed (kept in the orchestrator's own mirror)");
  await must("run", "diff", "latest");

  title("Status of the fleet, and how to look at the worker");
  await must("status");
  say("\nTo stand in the worker's tmux:  orchestrator attach greeter-1   (leave with Ctrl-b d)");

  title("Second task: the worker is warm");
  const again = performance.now();
  await must("--repo", "greeter", "--command", tasks[1], "--wait");
  const second = performance.now() - again;
  await must("run", "list");

  title("Done");
  say(
    `First task ${(first / 1000).toFixed(2)} s, second ${(second / 1000).toFixed(2)} s: ${(first / second).toFixed(1)} times as fast on the warm worker.`,
  );
}

async function cleanUp(): Promise<void> {
  if (keep) {
    say(`\nLeft running. To use it:  export ORCHESTRATOR_HOME=${home}`);
    say(`The program is:           ${PROGRAM.join(" ")}`);
    return;
  }
  title("Taking it down (each worker only after proof that its work is saved)");
  const local = join(home, "local");
  const workers = existsSync(local)
    ? readdirSync(local).filter((name) => /^greeter-\d+$/.test(name))
    : [];
  let left = false;
  for (const worker of workers)
    left = (await orchestrator("worker", "destroy", worker)) !== 0 || left;
  await orchestrator("stop");
  if (left) say(`\nNot everything could be taken down; it is left in ${place}`);
  else rmSync(place, { recursive: true, force: true });
}

try {
  await demo();
} catch (error) {
  say(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  await cleanUp();
}
