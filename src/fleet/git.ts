import { execa } from "execa";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";

/** Nothing of this machine's configuration, no hook, no question. */
const QUIET = {
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  GIT_ASKPASS: "true",
  LC_ALL: "C",
} as const;

export interface GitPlace {
  readonly gitDir: string;
  /** Absent: none. */
  readonly workTree?: string;
  readonly input?: string;
  /** Input and output are bytes, one character each: names of files need not be UTF-8. */
  readonly bytes?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  /** With the operator's own configuration: credential helpers, proxies. */
  readonly asPerson?: boolean;
}

export interface GitResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs git; its exit code is data. */
export async function tryGit(place: GitPlace, args: readonly string[]): Promise<GitResult> {
  const { gitDir, workTree, input } = place;
  const tree = workTree === undefined ? [] : ["--work-tree", workTree];
  const result = await execa(
    "git",
    ["-c", "core.hooksPath=/dev/null", "--git-dir", gitDir, ...tree, ...args],
    {
      env: {
        ...(place.asPerson === true ? { LC_ALL: "C" } : QUIET),
        GIT_TERMINAL_PROMPT: "0",
        ...place.env,
      },
      reject: false,
      ...(input === undefined
        ? { stdin: "ignore" as const }
        : { input: Buffer.from(input, place.bytes === true ? "latin1" : "utf8") }),
      encoding: place.bytes === true ? ("latin1" as const) : ("utf8" as const),
      ...(workTree === undefined ? {} : { cwd: workTree }),
      stripFinalNewline: false,
      maxBuffer: 64 * 1024 * 1024,
      timeout: 120_000,
    },
  );
  return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
}

/** What git prints; `internal` with its last words when it fails. */
export async function runGit(place: GitPlace, args: readonly string[]): Promise<string> {
  const result = await tryGit(place, args);
  if (result.exitCode === 0) return result.stdout;
  const why = cleanText(result.stderr.trim().split("\n").at(-1) ?? "", 200);
  throw new OrchestratorError(
    "internal",
    `git ${args[0] ?? ""} failed in ${place.gitDir}${why === "" ? "" : `: ${why}`}`,
    { details: { exit_code: result.exitCode } },
  );
}
