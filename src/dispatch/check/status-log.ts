import { homedir } from "node:os";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OrchestratorError } from "../../domain/errors.ts";
import { appendLine } from "../../platform/append-line.ts";
import { errorLine } from "./status-line.ts";

/** Holds no secret; people of the machine's log group may read it. */
const MODE = 0o640;

export interface StatusLogOptions {
  /** As configured: absolute or `~/...`. */
  readonly wanted: string;
  readonly fallback: string;
  readonly userHome?: string;
  /** Path and reason of a refusal that was told before: it is not told again. */
  readonly refusedBefore: string | null;
}

export interface StatusLog {
  write(line: string, now: number): Promise<void>;
  /** Where the lines are: the fallback once the wanted file has refused one. */
  readonly path: string;
  /** Why the wanted file is not used; null while it is. */
  readonly refused: string | null;
}

/**
 * The log of the silent check. When the wanted file refuses a line, that line and all later ones go to the fallback, after one line that
 * says why. Rejects with `invalid_config` when neither takes it.
 */
export function openStatusLog(options: StatusLogOptions): StatusLog {
  const { fallback, refusedBefore } = options;
  const wanted = options.wanted.startsWith("~/")
    ? join(options.userHome ?? homedir(), options.wanted.slice(2))
    : options.wanted;
  let refused: string | null = null;

  const writeFallback = async (line: string): Promise<void> => {
    try {
      await mkdir(dirname(fallback), { recursive: true, mode: 0o700 });
      await appendLine(fallback, line, MODE);
    } catch (cause) {
      throw new OrchestratorError(
        "invalid_config",
        `the status log cannot be written: neither ${wanted} (${refused ?? ""}) nor ${fallback} (${codeOf(cause)})`,
        { hint: "set check.log in config.yaml to a file that you may write", cause },
      );
    }
  };

  return {
    get path() {
      return refused === null ? wanted : fallback;
    },
    get refused() {
      return refused === null ? null : `${wanted} (${refused})`;
    },
    async write(line, now) {
      if (refused === null) {
        try {
          return await appendLine(wanted, line, MODE);
        } catch (error) {
          refused = codeOf(error);
          if (refusedBefore !== `${wanted} (${refused})`) {
            const message = `${wanted} cannot be written (${refused}): the status is logged here until it can`;
            await writeFallback(errorLine(now, "status_log", message));
          }
        }
      }
      return writeFallback(line);
    },
  };
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : "not all of it was written";
