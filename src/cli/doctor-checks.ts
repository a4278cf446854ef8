import { access, chmod, mkdtemp, rm, stat, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import type { Config, RepoConfig } from "../config/config.ts";
import { loadConfig, readConfigText } from "../config/load.ts";
import { resolveSecret } from "../config/secrets.ts";
import type { Check } from "../domain/check.ts";
import { cleanTail, tellingLines } from "../fleet/failure-text.ts";
import { silentLogger } from "../platform/logger.ts";
import { verifyChain } from "../store/chain.ts";
import { markPath } from "../store/mark.ts";
import { openStore } from "../store/open.ts";
import type { Context } from "./context.ts";
import { asOrchestratorError } from "./errors.ts";
import { plural } from "./format.ts";
import { connectTo } from "./session.ts";
import { asPong } from "./views.ts";

const PROGRAM_MS = 10_000;
const REMOTE_MS = 30_000;
const LEAST_BYTES = 200 * 1024 * 1024;
const FEW_BYTES = 2 * 1024 ** 3;

/** Looks at this machine, cheapest first; each look is told as it comes. */
export async function localChecks(
  context: Context,
  tell: (check: Check) => void,
  signal: AbortSignal,
): Promise<void> {
  tell(node());
  for (const program of PROGRAMS) tell(await programCheck(context, program));
  tell(await home(context));
  tell(await disk(context));
  tell(await store(context));
  tell(await controller(context));
  const config = await configOf(context, tell);
  if (config === undefined || signal.aborted) return;
  for (const [name, repo] of Object.entries(config.repos)) {
    if (!signal.aborted) tell(await remote(context, name, repo));
  }
  for (const check of await (await context.trials()).configured(config)) tell(check);
}

function node(): Check {
  const [major = "0"] = process.versions.node.split(".");
  if (Number(major) >= 24) return { check: "node", state: "ok", detail: process.version };
  return {
    check: "node",
    state: "fail",
    detail: `this is Node ${process.version}`,
    fix: "install Node 24 or newer",
  };
}

interface Program {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
  readonly packageName: string;
}

const PROGRAMS: readonly Program[] = [
  { name: "git", argv: ["git", "--version"], packageName: "git" },
  { name: "tmux", argv: ["tmux", "-V"], packageName: "tmux" },
  { name: "ssh", argv: ["ssh", "-V"], packageName: "openssh-client" },
  { name: "sshd", argv: ["sshd", "-V"], packageName: "openssh-server" },
];

const SSHD_FOLDERS = ":/usr/sbin:/usr/local/sbin:/sbin";

async function programCheck(
  { env }: Context,
  { name, argv, packageName }: Program,
): Promise<Check> {
  const [command, ...args] = argv;
  const path = name === "sshd" ? env.path + SSHD_FOLDERS : env.path;
  const ran = await execa(command, args, {
    env: { PATH: path, LANG: "C.UTF-8" },
    extendEnv: false,
    reject: false,
    all: true,
    timeout: PROGRAM_MS,
    stdin: "ignore",
  });
  // sshd before 9.3 knows no -V, and says its version all the same.
  const line = ran.all?.split("\n").find((text) => /\d\.\d/.test(text)) ?? "";
  if (ran.exitCode !== undefined && line !== "") return { check: name, state: "ok", detail: line };
  return {
    check: name,
    state: "fail",
    detail: `${name} is not found`,
    fix: `install the package ${packageName}`,
  };
}

async function home({ paths }: Context): Promise<Check> {
  const check = "home";
  const found = await stat(paths.home).catch(() => undefined);
  if (found === undefined) {
    return {
      check,
      state: "warn",
      detail: `${paths.home} is not there yet`,
      fix: "orchestrator init",
    };
  }
  if (!found.isDirectory())
    return {
      check,
      state: "fail",
      detail: `${paths.home} is not a folder`,
      fix: "set ORCHESTRATOR_HOME",
    };
  if (found.uid !== process.getuid?.()) {
    return {
      check,
      state: "fail",
      detail: `${paths.home} belongs to another user`,
      fix: "set ORCHESTRATOR_HOME",
    };
  }
  if ((found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8);
    return {
      check,
      state: "fail",
      detail: `others may look into ${paths.home} (${mode})`,
      fix: `chmod 700 ${paths.home}`,
    };
  }
  const writable = await access(paths.home, 2).then(
    () => true,
    () => false,
  );
  if (!writable)
    return {
      check,
      state: "fail",
      detail: `${paths.home} cannot be written`,
      fix: `chmod 700 ${paths.home}`,
    };
  return { check, state: "ok", detail: paths.home };
}

async function disk({ paths, env }: Context): Promise<Check> {
  const check = "disk";
  const place = await statfs(paths.home).catch(() => statfs(env.userHome));
  const free = place.bavail * place.bsize;
  const detail = `${(free / 1024 ** 3).toFixed(1)} GiB free`;
  const fix = "free some space where the orchestrator's folder is";
  if (free < LEAST_BYTES) return { check, state: "fail", detail, fix };
  if (place.files > 0 && place.ffree / place.files < 0.01)
    return { check, state: "warn", detail: `${detail}, few inodes`, fix };
  return {
    check,
    state: free < FEW_BYTES ? "warn" : "ok",
    detail,
    ...(free < FEW_BYTES ? { fix } : {}),
  };
}

/** The whole log is followed, not only its end as at every start. */
async function store(context: Context): Promise<Check> {
  const check = "store";
  const { database } = context.paths;
  const isThere = await Promise.all(
    [database, markPath(database)].map((path) =>
      access(path).then(
        () => true,
        () => false,
      ),
    ),
  );
  if (!isThere.some(Boolean))
    return { check, state: "ok", detail: "none yet: the first command makes it" };
  try {
    const opened = await openStore({ path: database, clock: context.clock(), ids: context.ids() });
    try {
      const report = await verifyChain(opened.db);
      if (report.kind === "whole")
        return {
          check,
          state: "ok",
          detail: `${plural(report.end.seq, "event")}, the chain is whole`,
        };
      return {
        check,
        state: "fail",
        detail: `the event log is broken at ${report.seq}: ${report.reason}`,
        fix: `restore a backup that lies beside ${database}`,
      };
    } finally {
      await opened.close();
    }
  } catch (thrown) {
    const error = asOrchestratorError(thrown);
    return {
      check,
      state: "fail",
      detail: error.message,
      fix: error.hint ?? `restore a backup that lies beside ${database}`,
    };
  }
}

async function controller(context: Context): Promise<Check> {
  const check = "controller";
  try {
    const client = await connectTo(context);
    if (client === undefined)
      return { check, state: "ok", detail: "none runs: the next command that needs one starts it" };
    try {
      const pong = asPong(await client.call("controller.ping", {}));
      return {
        check,
        state: "ok",
        detail: `process ${pong.pid} answers, version ${pong.version}, ${plural(pong.live_runs, "live run")}`,
      };
    } finally {
      await client.close();
    }
  } catch (thrown) {
    const error = asOrchestratorError(thrown);
    return { check, state: "fail", detail: error.message, fix: error.hint ?? "orchestrator stop" };
  }
}

async function configOf(
  { paths, env }: Context,
  tell: (check: Check) => void,
): Promise<Config | undefined> {
  const check = "config";
  try {
    const isThere = (await readConfigText(paths.config)) !== null;
    const config = await loadConfig(paths.config, env);
    const count = Object.keys(config.repos).length;
    if (!isThere || count === 0) {
      tell({
        check,
        state: "warn",
        detail: isThere ? "no repo is configured" : `${paths.config} is not there yet`,
        fix: "orchestrator init",
      });
    } else tell({ check, state: "ok", detail: `${paths.config}: ${plural(count, "repo")}` });
    return config;
  } catch (thrown) {
    const error = asOrchestratorError(thrown);
    tell({
      check,
      state: "fail",
      detail: error.message,
      fix: error.hint ?? `edit ${paths.config}; 'orchestrator config reference' shows its keys`,
    });
    return undefined;
  }
}

/** As a worker would: with the deploy key, and without this person's own Git settings. */
async function remote({ env }: Context, name: string, repo: RepoConfig): Promise<Check> {
  const check = `repo ${name}`;
  const folder = await mkdtemp(join(tmpdir(), "so-remote-"));
  try {
    const key = join(folder, "key");
    if (repo.git?.deployKey !== undefined) {
      const secret = await resolveSecret(repo.git.deployKey, {
        env,
        logger: silentLogger,
        shape: "block",
      });
      await writeFile(key, secret.reveal(), { mode: 0o600 });
      await chmod(key, 0o600);
    }
    const identity = repo.git?.deployKey === undefined ? "" : ` -i ${key} -o IdentitiesOnly=yes`;
    const asked = await execa(
      "git",
      [
        "ls-remote",
        "--",
        repo.url,
        repo.branch === undefined ? "HEAD" : `refs/heads/${repo.branch}`,
      ],
      {
        env: {
          PATH: env.path,
          HOME: folder,
          LANG: "C.UTF-8",
          GIT_TERMINAL_PROMPT: "0",
          GIT_SSH_COMMAND: `ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=${folder}/known -o ConnectTimeout=20${identity}`,
        },
        extendEnv: false,
        cwd: folder,
        reject: false,
        timeout: REMOTE_MS,
        stdin: "ignore",
      },
    );
    if (asked.failed) {
      const why = asked.timedOut
        ? `no answer within ${REMOTE_MS / 1_000} s`
        : (tellingLines(cleanTail(asked.stderr.split("\n"))).at(-1) ?? "git did not say why");
      return {
        check,
        state: "fail",
        detail: `${repo.url} cannot be read: ${why}`,
        fix: "check the URL, and git.deployKey where it needs one",
      };
    }
    if (asked.stdout.trim() === "") {
      const what =
        repo.branch === undefined
          ? "has no default branch: is it empty?"
          : `has no branch ${repo.branch}`;
      return {
        check,
        state: "fail",
        detail: `${repo.url} ${what}`,
        fix: `push a first commit, or set repos.${name}.branch`,
      };
    }
    return { check, state: "ok", detail: `${repo.url} can be read` };
  } catch (thrown) {
    const error = asOrchestratorError(thrown);
    return {
      check,
      state: "fail",
      detail: error.message,
      fix: error.hint ?? "check git.deployKey",
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
