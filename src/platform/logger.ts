import { appendFileSync } from "node:fs";

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A log of facts: lower-case past-tense event and scalar fields with stable names (`run_id`, `worker_id`, `exit_code`). */
export interface Logger {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export const silentLogger: Logger = { info() {}, warn() {}, error() {} };

/** One JSON object a line, appended to `path`. A log that cannot be written never stops the work. */
export function fileLogger(path: string, now: () => number): Logger {
  const write = (level: string, event: string, fields: LogFields = {}) => {
    const line = JSON.stringify({ at: new Date(now()).toISOString(), level, event, ...fields });
    try {
      appendFileSync(path, `${line}\n`, { mode: 0o600 });
    } catch {
      // A full disk must not take the controller down with it.
    }
  };
  return {
    info: (event, fields) => write("info", event, fields),
    warn: (event, fields) => write("warn", event, fields),
    error: (event, fields) => write("error", event, fields),
  };
}
