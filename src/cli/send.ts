import { OrchestratorError } from "../domain/errors.ts";
import type { SentView } from "../operations/views.ts";
import { cleanLine } from "./clean.ts";
import type { Context } from "./context.ts";
import { exitCodeOf, showError, toJsonError } from "./errors.ts";
import { refused } from "./follow.ts";
import { followAndReport } from "./follow-command.ts";
import { printJson, printLine } from "./io.ts";
import { lastEventOf, targetName } from "./run-target.ts";
import { openSession } from "./session.ts";
import { argumentOf, isSet, json, textOf, type CommandSpec, type Given } from "./spec.ts";
import { readTaskText, saysStandardInput, TEXT_NOTES, textOptions } from "./task-text.ts";
import { asSent, asStatus } from "./views.ts";

const EXAMPLE = 'orchestrator send kite-1 --command "also update the tests"';

export const commands: readonly CommandSpec[] = [
  {
    path: "send",
    summary: "Send a follow-up to a run's agent, or to the agent of a worker's last run",
    notes: `${TEXT_NOTES}
A run that has ended is continued by a new run on the same worker. While the agent works, the message waits for the end
of its turn (--wait follows it until then); --live pastes it into the window now, and only when no dialog is open.`,
    arguments: [
      { name: "target", help: "a run or a worker" },
      { name: "-", help: "read the message from standard input", optional: true },
    ],
    options: [
      ...textOptions,
      {
        name: "live",
        help: "paste into the live window instead of waiting for the end of the turn",
      },
      { name: "wait", help: "follow until the agent has the message" },
      {
        name: "request-id",
        value: "id",
        help: "name of this request: repeated it never acts twice",
      },
      json,
    ],
    examples: [EXAMPLE, "orchestrator send run-7k3m9x2q0abc --file review.md --wait"],
    run: runSend,
  },
];

async function runSend(context: Context, given: Given): Promise<number> {
  const target = targetName(argumentOf(given, 0));
  const text = await readTaskText(context.io, given, saysStandardInput(given, 1));
  if (text === undefined) {
    throw new OrchestratorError("invalid_input", "--command is missing", {
      hint: `for example: ${EXAMPLE}`,
    });
  }
  const session = openSession(context, "controller");
  try {
    const status = asStatus(await session.call("status", { target }, { repeatable: true }));
    const former = status.runs[0];
    const after = former === undefined ? 0 : await lastEventOf(session, former.run_id);
    const sent = asSent(
      await session.call(
        "send",
        {
          target,
          text,
          live: isSet(given, "live"),
          request_id: textOf(given, "request-id") ?? context.ids().next("request"),
        },
        { repeatable: true },
      ),
    );
    const isNew = sent.run_id !== former?.run_id;
    if (isNew || isSet(given, "wait")) {
      return await followAndReport(context, session, sent, {
        until: "delivered",
        json: isSet(given, "json"),
        after: isNew ? 0 : after,
        message: sent.message.seq,
      });
    }
    return reportReceipt(context, sent, isSet(given, "json"));
  } finally {
    await session.close();
  }
}

/** Says what became of a message; the exit code is that of its receipt. */
export function reportReceipt(context: Context, sent: SentView, asJson: boolean): number {
  const error = errorOf(sent);
  if (asJson) {
    printJson(context.io, {
      ...sent,
      ...(error === undefined ? {} : { error: toJsonError(error) }),
    });
    return error === undefined ? 0 : exitCodeOf(error.code);
  }
  const { receipt } = sent.message;
  const waits = receipt === "queued" ? ": the agent gets it at the end of its turn" : "";
  printLine(context.io, `${cleanLine(sent.run_id)}  receipt: ${receipt}${waits}`);
  return error === undefined ? 0 : showError(context.io, error, false);
}

function errorOf(sent: SentView): OrchestratorError | undefined {
  const { receipt, seq } = sent.message;
  const details = { run_id: sent.run_id, message: seq, receipt };
  switch (receipt) {
    case "accepted":
    case "queued":
      return undefined;
    case "typed_only":
    case "unknown":
      return new OrchestratorError(
        "delivery_unconfirmed",
        `nothing proves that the agent of run ${sent.run_id} has the message (${receipt})`,
        { hint: `look with 'orchestrator status ${sent.run_id} --explain'`, details },
      );
    case "blocked":
      return new OrchestratorError("needs_person", `the message was not taken (${receipt})`, {
        hint: `look with 'orchestrator attach ${sent.worker ?? sent.run_id}'`,
        details,
      });
    case "refused":
      return refused(sent);
  }
}
