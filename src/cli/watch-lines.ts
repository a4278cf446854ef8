import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { formatTime } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import type { Fleet, Watcher } from "./watch-frame.ts";

/** A line for each worker or run that is not as it was. */
export function changeLines(context: Context, asJson: boolean): Watcher {
  const known = new Map<string, string>();
  const say = (what: string, name: string, text: string, more: object) => {
    if (asJson) printJson(context.io, { at: context.clock().now(), what, ...more });
    else {
      const time = formatTime(context.clock().now());
      printLine(
        context.io,
        `${time} ${what.padEnd(6)} ${cleanLine(name, 60)} ${cleanLine(text, 300)}`,
      );
    }
  };
  const note = (what: string, name: string, text: string, more: object) => {
    if (known.get(`${what} ${name}`) === text) return;
    known.set(`${what} ${name}`, text);
    say(what, name, text, more);
  };
  return {
    show(fleet) {
      known.delete("watch fleet");
      for (const worker of fleet.workers) {
        const { worker: name, status } = worker;
        const state = worker.idle ? "idle" : worker.allocation;
        const agent = status === null ? "" : ` ${status.status} (${status.reason})`;
        note("worker", name, `${state}${agent}`, {
          worker: name,
          state,
          status: status?.status ?? null,
          reason: status?.reason ?? null,
        });
      }
      for (const run of fleet.runs) {
        const { run_id: id, state, status, state_reason: because } = run;
        const agent = status === null ? "" : ` ${status.status} (${status.reason})`;
        note("run", id, `${state}${because === null ? "" : `: ${because}`}${agent}`, {
          run_id: id,
          state,
          status: status?.status ?? null,
          reason: because ?? status?.reason ?? null,
        });
      }
      forgetAbsent(known, fleet, (what, name) => {
        const key = what === "run" ? "run_id" : "worker";
        say(what, name, what === "run" ? "ended" : "gone", {
          [key]: name,
          state: what === "run" ? "ended" : "gone",
        });
      });
    },
    lost: (why) =>
      note("watch", "fleet", `cannot be seen now: ${why}`, { state: "lost", reason: why }),
    [Symbol.dispose]() {},
  };
}

function forgetAbsent(
  known: Map<string, string>,
  fleet: Fleet,
  gone: (what: string, name: string) => void,
): void {
  const there = new Set([
    "watch fleet",
    ...fleet.workers.map(({ worker }) => `worker ${worker}`),
    ...fleet.runs.map(({ run_id: id }) => `run ${id}`),
  ]);
  for (const key of known.keys()) {
    if (there.has(key)) continue;
    known.delete(key);
    const [what = "", name = ""] = key.split(" ");
    gone(what, name);
  }
}
