import { OrchestratorError } from "../domain/errors.ts";
import type { Context } from "./context.ts";
import { blockIn, cronBlock, cronLine, withBlock, withoutBlock, type CronJob } from "./crontab.ts";
import { crontabProgram } from "./crontab-program.ts";
import { printJson, printLine } from "./io.ts";
import { isSet, json, type CommandSpec, type Given } from "./spec.ts";

const NOTES = `Only the block between the two marks of this orchestrator is touched. Exit code 3 when this machine has no 'crontab' program: the
error then shows the line to add by hand; 14 when cron does not let you.`;

export const commands: readonly CommandSpec[] = [
  {
    path: "cron install",
    summary: "Run the silent check every 30 minutes, by your crontab; safe to repeat",
    notes: NOTES,
    options: [json],
    examples: ["orchestrator cron install"],
    run: (context, given) => change(context, given, true),
  },
  {
    path: "cron remove",
    summary: "Take the silent check out of your crontab; safe to repeat",
    notes: NOTES,
    options: [json],
    examples: ["orchestrator cron remove"],
    run: (context, given) => change(context, given, false),
  },
  {
    path: "cron status",
    summary: "Say whether your crontab runs the silent check",
    notes:
      "Exit code 0 when it does, 3 when it does not, 17 when it runs another program than this one.",
    options: [json],
    examples: ["orchestrator cron status"],
    run: runStatus,
  },
];

async function change(context: Context, given: Given, isWanted: boolean): Promise<number> {
  const job = jobOf(context);
  return orByHand(job, async () => {
    const crontab = crontabProgram(context.env.path);
    const before = await crontab.read();
    const after = isWanted ? withBlock(before, job) : withoutBlock(before, job.home);
    if (after !== before) {
      await crontab.replace(after);
      if ((await crontab.read()) !== after) {
        throw new OrchestratorError("internal", "the crontab is not what was written into it", {
          hint: "look at it with 'crontab -l'",
        });
      }
    }
    const outcome = after === before ? "unchanged" : isWanted ? "installed" : "removed";
    const line = isWanted ? cronLine(job) : null;
    if (isSet(given, "json")) printJson(context.io, { outcome, line });
    else printLine(context.io, line === null ? outcome : `${outcome}: ${line}`);
    return 0;
  });
}

async function runStatus(context: Context, given: Given): Promise<number> {
  const job = jobOf(context);
  return orByHand(job, async () => {
    const block = blockIn(await crontabProgram(context.env.path).read(), job.home);
    const line = block?.split("\n").find((each) => each !== "" && !each.startsWith("#")) ?? null;
    const state =
      block === undefined ? "not installed" : runsThis(block, job) ? "installed" : "outdated";
    if (isSet(given, "json")) printJson(context.io, { state, line });
    else printLine(context.io, line === null ? state : `${state}: ${line}`);
    if (state === "outdated" && !isSet(given, "json")) {
      context.io.writeError("hint: 'orchestrator cron install' makes it run this program\n");
    }
    return state === "installed" ? 0 : state === "outdated" ? 17 : 3;
  });
}

/** The PATH of the moment does not matter. */
function runsThis(block: string, job: CronJob): boolean {
  const plain = (text: string) => text.replace(/ PATH=('[^']*'|\S+)/, "").trim();
  return plain(block) === plain(cronBlock(job));
}

const jobOf = ({ paths, env, program }: Context): CronJob => ({
  home: paths.home,
  path: env.path,
  program,
});

async function orByHand(job: CronJob, act: () => Promise<number>): Promise<number> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof OrchestratorError) || error.code !== "nothing_available") throw error;
    throw new OrchestratorError(error.code, error.message, {
      hint: `have this line run by whatever does such things here: ${cronLine(job)}`,
      cause: error,
    });
  }
}
