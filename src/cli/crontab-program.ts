import { execa } from "execa";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";

/** What `crontab -l` says when a person has none: Debian's and cronie's program, busybox, and BSD. Nothing else may pass for an empty one. */
const NO_CRONTAB =
  /^(no crontab for \S+|crontab: no crontab for \S+|crontab: can't open '[^']*': No such file or directory)\s*$/m;

export interface CrontabProgram {
  /** Empty when the person has none. */
  read(): Promise<string>;
  replace(text: string): Promise<void>;
}

/** The `crontab` in the person's PATH; `nothing_available` when there is none. */
export function crontabProgram(path: string): CrontabProgram {
  const run = async (args: readonly string[], input?: string) => {
    const result = await execa("crontab", args, {
      reject: false,
      stripFinalNewline: false,
      timeout: 20_000,
      env: { PATH: path, LC_ALL: "C" },
      ...(input === undefined ? { stdin: "ignore" } : { input }),
    });
    if (result.code === "ENOENT") throw missing();
    return result;
  };
  return {
    async read() {
      const { exitCode, stdout, stderr } = await run(["-l"]);
      if (exitCode === 0) return stdout;
      if (NO_CRONTAB.test(stderr) && stdout === "") return "";
      throw failed("read", stderr);
    },
    async replace(text) {
      const { exitCode, stderr } = await run(["-"], text);
      if (exitCode !== 0) throw failed("written", stderr);
    },
  };
}

const missing = () =>
  new OrchestratorError("nothing_available", "there is no program 'crontab' on this machine");

function failed(what: string, stderr: string): OrchestratorError {
  const why = cleanText(stderr, 200);
  return new OrchestratorError(
    "forbidden",
    `the crontab could not be ${what}${why === "" ? "" : `: ${why}`}`,
  );
}
