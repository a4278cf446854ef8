import { repoConfig, runtimeOf } from "../fleet/context.ts";
import { cleanTail } from "../fleet/failure-text.ts";
import type { JobResult } from "../provisioner/provisioner.ts";
import type { RepoConfig } from "../config/config.ts";
import type { Tx } from "../store/store.ts";
import type { DispatchContext } from "./context.ts";
import { insertMessage } from "./messages.ts";
import type { Run } from "./runs.ts";
import { failureMessage } from "./verify-message.ts";
import {
  beginRound,
  endRound,
  handedBack,
  raiseTries,
  roundOf,
  type Round,
} from "./verify-rounds.ts";

/** How much longer the job is waited for than its command may take (ms): it may have to wait for its turn on the worker. */
const JOB_SLACK_MS = 10 * 60_000;

/** How a round ended on the worker. */
export interface Checked {
  readonly round: Round;
  /** 0: passed; null: it could not be run. */
  readonly code: number | null;
  readonly tail: readonly string[];
}

/**
 * Runs the repo's `verify` in the clone after the turn of the run's latest launch. A job of the worker, named by its round: after a crash or a cut the
 * same round is taken up again, and its command does not run twice. Null: none is configured, or this turn was verified before.
 */
export async function verifyTurn(
  context: DispatchContext,
  run: Run,
  signal: AbortSignal,
): Promise<Checked | null> {
  const { fleet, connections } = context;
  const repo = fleet.config().repos[run.repo];
  if (repo?.verify === undefined || run.worker_id === null) return null;
  const known = await roundOf(fleet.store.db, run.run_id, run.launch);
  if (known !== undefined && known.state !== "running") return null;
  const round = known ?? (await beginRound(fleet.store, run, repo.verify, repo.verifyRounds));
  fleet.failpoint("before-verify");
  const transport = await connections.reach(run.worker_id);
  const result = await fleet.provisioner.runJob(
    transport,
    {
      job: jobOf(round),
      epoch: run.epoch ?? 0,
      steps: ["verify"],
      params: paramsOf(run, repo, round.command),
      timeoutMs: repo.verifyMinutes * 60_000 + JOB_SLACK_MS,
      signal,
    },
    () => {},
  );
  fleet.failpoint("after-verify");
  // Its machine went down with it: nobody knows how it would have ended.
  if (result.code === "lost") {
    await raiseTries(fleet.store, round);
    return verifyTurn(context, run, signal);
  }
  return { round, ...outcomeOf(result) };
}

const jobOf = ({ run_id, round, tries }: Round): string =>
  `${run_id}-verify-${round}${tries === 1 ? "" : `-${tries}`}`;

function paramsOf(run: Run, repo: RepoConfig, command: string): Record<string, string> {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const env = Object.entries(repo.env).map(([name, value]) => `${name}=${value}`);
  return {
    REPO: run.repo,
    ENV_B64: base64(env.join("\n")),
    VERIFY_B64: base64(command),
    VERIFY_SECONDS: String(Math.ceil(repo.verifyMinutes * 60)),
  };
}

function outcomeOf(result: JobResult): Pick<Checked, "code" | "tail"> {
  if (result.failed === null) return { code: 0, tail: [] };
  const code = Number(result.facts["verify.code"]);
  return { code: Number.isInteger(code) ? code : null, tail: cleanTail(result.failed.tail) };
}

export type Verdict =
  | { readonly kind: "passed" }
  /** The failure is a message that waits for the next launch. */
  | { readonly kind: "handed-back" }
  | { readonly kind: "failed"; readonly reason: string };

/** Records a round's end, in one transaction with what follows from it: the message to the agent, or the end that the caller gives the run. */
export async function recordRound(
  tx: Tx,
  context: DispatchContext,
  run: Run,
  { round, code, tail }: Checked,
): Promise<Verdict> {
  const { verifyRounds } = repoConfig(context.fleet, run.repo);
  const { resumes } = runtimeOf(context.fleet, run.runtime).capabilities;
  const used = await handedBack(tx.db, run.run_id);
  const seq =
    code !== 0 && resumes && used < verifyRounds
      ? await insertMessage(tx, run.run_id, failureMessage(round.command, code, tail))
      : null;
  await endRound(tx, run, round, { code, tail, seq, left: verifyRounds - used - 1 });
  if (code === 0) return { kind: "passed" };
  if (seq !== null) return { kind: "handed-back" };
  const last = tail.at(-1);
  const after = used === 0 ? "" : ` after ${used + 1} rounds`;
  const how = code === null ? "could not be run" : `failed with code ${code}`;
  return {
    kind: "failed",
    reason: `verify ${how}${after}${last === undefined ? "" : `: ${last}`}`,
  };
}
