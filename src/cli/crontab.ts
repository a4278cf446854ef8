import { OrchestratorError } from "../domain/errors.ts";
import { quoteArgument } from "../transport/quote.ts";

/*
 * The orchestrator's block in a crontab. Pure. Everything outside its two marks stays byte for byte; blocks of other homes are not ours.
 */

export interface CronJob {
  readonly home: string;
  readonly path: string;
  /** Absolute: cron has almost no PATH. */
  readonly program: readonly string[];
}

/** cron refuses longer commands. */
const MAX_COMMAND_LENGTH = 980;
const FIRST = "# BEGIN sprite-orchestrator";
const LAST = "# END sprite-orchestrator";

/** The line that cron runs: every 30 minutes, with the tools that the person has now. */
export function cronLine({ home, path, program }: CronJob): string {
  const folders = [...new Set(path.split(":").filter((folder) => folder.startsWith("/")))];
  const command = (found: readonly string[]) =>
    [
      `ORCHESTRATOR_HOME=${quoteArgument(home)}`,
      `PATH=${quoteArgument(found.join(":"))}`,
      ...[...program, "check", "--silent"].map(quoteArgument),
    ]
      .join(" ")
      // To cron a percent sign is a newline.
      .replaceAll("%", "\\%");
  const whole = command(folders);
  if (/\p{Cc}/u.test(whole)) {
    throw new OrchestratorError(
      "invalid_config",
      "a path with control characters cannot stand in a crontab",
    );
  }
  const usual = ["/usr/local/bin", "/usr/bin", "/bin"];
  return `*/30 * * * * ${whole.length > MAX_COMMAND_LENGTH ? command(usual) : whole}`;
}

export const cronBlock = (job: CronJob): string =>
  [
    `${FIRST} ${job.home}`,
    "# Made by 'orchestrator cron install'; 'orchestrator cron remove' takes it out.",
    cronLine(job),
    `${LAST} ${job.home}`,
    "",
  ].join("\n");

/** The block of that home as it stands; undefined when there is none. */
export const blockIn = (crontab: string, home: string): string | undefined =>
  split(crontab, home).blocks[0];

export const withoutBlock = (crontab: string, home: string): string => split(crontab, home).rest;

/** In the place where it stood, else at the end. */
export function withBlock(crontab: string, job: CronJob): string {
  const { before, blocks, rest } = split(crontab, job.home);
  if (blocks.length > 0) return before + cronBlock(job) + rest.slice(before.length);
  return (rest === "" || rest.endsWith("\n") ? rest : `${rest}\n`) + cronBlock(job);
}

/** `before`: what stands before the first block; `rest`: all but the blocks. */
function split(crontab: string, home: string) {
  const lines = crontab.split(/(?<=\n)/);
  const is = (line: string, mark: string) => line.replace(/\r?\n$/, "") === `${mark} ${home}`;
  const blocks: string[] = [];
  let [before, rest, open] = ["", "", ""];
  for (const line of lines) {
    if (is(line, FIRST)) {
      if (open !== "") throw damaged(home);
      open = line;
    } else if (open !== "") {
      open += line;
      if (!is(line, LAST)) continue;
      blocks.push(open);
      open = "";
    } else {
      rest += line;
      if (blocks.length === 0) before = rest;
    }
  }
  if (open !== "") throw damaged(home);
  return { before, blocks, rest };
}

function damaged(home: string): OrchestratorError {
  return new OrchestratorError(
    "invalid_config",
    `the orchestrator's block in the crontab has a beginning and no end ('${LAST} ${home}')`,
    { hint: "mend it with 'crontab -e', then run this again" },
  );
}
