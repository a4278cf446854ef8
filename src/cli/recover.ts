import { resolve } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { formatTime, plural } from "./format.ts";
import { printJson, printLine } from "./io.ts";
import { wholeNumber } from "./parse.ts";
import { targetName } from "./run-target.ts";
import { performAt } from "./session.ts";
import { argumentOf, isSet, textOf, type Given } from "./spec.ts";
import { table } from "./table.ts";
import { asRecovered, asSnapshots } from "./views.ts";

const READ = { repeatable: true };

/** `run recover`. */
export async function runRecover(context: Context, given: Given): Promise<number> {
  const run_id = targetName(argumentOf(given, 0), "run");
  if (isSet(given, "list")) return list(context, given, run_id);
  const input = {
    run_id,
    snapshot: textOf(given, "snapshot") === "latest" ? "latest" : wholeNumber(given, "snapshot", 1),
    ...whereTo(given),
    push: isSet(given, "push"),
  };
  const found = asRecovered(await performAt(context, "controller", "run.recover", input));
  const { io } = context;
  if (isSet(given, "json")) {
    printJson(io, found);
    return 0;
  }
  printLine(
    io,
    `snapshot  ${found.snapshot} of ${found.run_id}, taken ${formatTime(found.taken_at)}`,
  );
  if (found.folder !== null) printLine(io, `folder    ${cleanLine(found.folder, 1_000)}`);
  if (found.branch !== null) {
    printLine(
      io,
      `branch    ${cleanLine(found.branch)}${found.pushed ? ", pushed" : " of the mirror"}`,
    );
    if (found.fetch !== null) printLine(io, `get it    ${cleanLine(found.fetch, 1_000)}`);
  }
  for (const name of found.nested) printLine(io, `inside    ${cleanLine(name)}`);
  for (const name of found.elsewhere) printLine(io, `elsewhere ${cleanLine(name)}`);
  return 0;
}

async function list(context: Context, given: Given, run_id: string): Promise<number> {
  const { io } = context;
  const snapshots = asSnapshots(
    await performAt(context, "controller", "run.snapshots", { run_id }, READ),
  );
  if (isSet(given, "json")) for (const snapshot of snapshots) printJson(io, snapshot);
  else if (snapshots.length === 0) printLine(io, "no snapshots");
  else {
    const rows = snapshots.map((one) => [
      String(one.snapshot),
      formatTime(one.taken_at),
      one.commit?.slice(0, 12) ?? "-",
      [
        ...(one.skipped.length > 0 ? [`${plural(one.skipped.length, "file")} left out`] : []),
        ...(one.unsaved.length > 0 ? [`not saved: ${one.unsaved.join(", ")}`] : []),
      ].join("; "),
    ]);
    for (const line of table(["SNAPSHOT", "TAKEN", "COMMIT", "NOTE"], rows, io.columns))
      printLine(io, line);
  }
  return 0;
}

function whereTo(given: Given): { folder: string } | { branch: string } {
  const to = textOf(given, "to");
  if (to === undefined || to === "") {
    throw new OrchestratorError("invalid_input", "--to is missing", {
      hint: "for example: orchestrator run recover run-7k3m9x2q0abc --to ./rescued; --list shows what there is",
    });
  }
  if (!/^[./]/.test(to)) return { branch: to };
  if (isSet(given, "push")) {
    throw new OrchestratorError("invalid_input", "--push goes with a branch, not with a folder", {
      hint: "give the name of a branch: --to rescued-work --push",
    });
  }
  return { folder: resolve(to) };
}
