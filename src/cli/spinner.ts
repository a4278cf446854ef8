import ora from "ora";
import type { Spinner } from "./progress.ts";

/** Turns on standard output while something is under way. Loaded on a terminal only. */
export function openSpinner(): Spinner {
  // stdin is left alone: Ctrl-C must reach us.
  const spinner = ora({ stream: process.stdout, discardStdin: false });
  return {
    start: (text) => void spinner.start(text),
    stop: () => void spinner.stop(),
  };
}
