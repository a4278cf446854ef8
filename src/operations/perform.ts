import type { z } from "zod";
import { OrchestratorError } from "../domain/errors.ts";
import type { Operation } from "./operation.ts";
import type { Services } from "./services.ts";

/*
 * How a door performs an operation: input parsed with its schema (one clear `invalid_input`), output held to its schema,
 * so that nothing crosses a door that the operation does not declare.
 */

/** The operation of that id, or `invalid_input`. */
export function findOperation(operations: ReadonlyMap<string, Operation>, id: string): Operation {
  const operation = operations.get(id);
  if (operation !== undefined) return operation;
  throw new OrchestratorError("invalid_input", `there is no operation ${quoted(id)}`);
}

/** Performs an operation that answers once. */
export async function performOnce(
  operation: Operation,
  services: Services,
  rawInput: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  if (operation.answer.kind !== "once") throw wrongKind(operation, "streams");
  const input = parseInput(operation, rawInput);
  return checkOutput(operation, await operation.answer.handle(services, input, signal));
}

/** Performs an operation that streams. */
export async function* performStream(
  operation: Operation,
  services: Services,
  rawInput: unknown,
  signal: AbortSignal,
): AsyncGenerator {
  if (operation.answer.kind !== "stream") throw wrongKind(operation, "answers once");
  const input = parseInput(operation, rawInput);
  for await (const item of operation.answer.handle(services, input, signal)) {
    yield checkOutput(operation, item);
  }
}

function parseInput(operation: Operation, rawInput: unknown): unknown {
  const parsed = operation.input.safeParse(rawInput);
  if (parsed.success) return parsed.data;
  const [first] = parsed.error.issues;
  const command = operation.cli?.replace(/ --.*$/, "");
  throw new OrchestratorError("invalid_input", describeIssue(first), {
    hint:
      command === undefined ? undefined : `'orchestrator ${command} --help' shows what it takes`,
    details: { operation: operation.id, path: pathOf(first) },
  });
}

function checkOutput(operation: Operation, output: unknown): unknown {
  const parsed = operation.output.safeParse(output);
  if (parsed.success) return parsed.data;
  const [first] = parsed.error.issues;
  throw new OrchestratorError(
    "internal",
    `the answer of ${operation.id} breaks its contract at ${describeIssue(first)}`,
  );
}

type Issue = z.core.$ZodIssue | undefined;

function describeIssue(issue: Issue): string {
  if (issue === undefined) return "input: not accepted";
  const path = pathOf(issue);
  const name = path === "" ? "input" : path;
  if (issue.code === "unrecognized_keys") {
    return `${name}: ${issue.keys.slice(0, 5).map(quoted).join(", ")} is not known here`;
  }
  return `${name}: ${issue.message}`;
}

const pathOf = (issue: Issue): string =>
  (issue?.path ?? []).map((part) => cut(String(part))).join(".");

const cut = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}...` : text);

/** As a JSON string: control characters come out escaped. */
const quoted = (text: string): string => JSON.stringify(cut(text));

function wrongKind(operation: Operation, what: string): OrchestratorError {
  return new OrchestratorError("internal", `${operation.id} ${what}; it was called the other way`);
}
