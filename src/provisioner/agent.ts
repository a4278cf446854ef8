import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import type { ExecOptions, ExecResult, Transport } from "../transport/transport.ts";
import { execWorker, WORKER_CODES, workerFailed, type Bundle } from "./bundle.ts";
import type { Over, StartResult, WorkerFile } from "./provisioner.ts";
import { tar } from "./tar.ts";

/** `start` waits up to 20 s for the gate; a busy disk may take longer to sync. */
export const START_TIMEOUT_MS = 60_000;
const CALL_TIMEOUT_MS = 30_000;
/** No agent window, its program ended, or a person reads in it. */
const NO_LIVE_PANE = 69;
const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024;
const MAX_REASON_LENGTH = 200;

/**
 * Starts the agent of (run, launch) at most once, or says what became of it. Idempotent; after a lost answer call it again.
 * `unknown` is no failure of the call: the worker could not tell, and says why.
 */
export async function start(
  transport: Transport,
  bundle: Bundle,
  input: {
    readonly epoch: number;
    readonly run: string;
    readonly launch: number;
    readonly session: string;
    readonly files: readonly WorkerFile[];
  },
): Promise<StartResult> {
  const { epoch, run, launch, session } = input;
  const args = [bundle.hash, String(epoch), run, String(launch), session];
  const result = await execWorker(transport, bundle, "start", args, {
    stdin: startArchive(input.files),
    timeoutMs: START_TIMEOUT_MS,
  });
  const answer = result.code === 0 ? parseStart(result.stdout) : undefined;
  if (answer === undefined) throw workerFailed(`start the agent of ${run}`, result);
  return answer;
}

/** What `start` reads: an archive of the files, with END as the last. */
export function startArchive(files: readonly WorkerFile[]): Uint8Array {
  for (const { name } of files) {
    if (!/^[a-z0-9][a-z0-9.-]{0,99}$/.test(name))
      throw new OrchestratorError("internal", `${JSON.stringify(name)} is no name of a run's file`);
  }
  return tar([...files, { name: "END", content: new Uint8Array(), mode: 0o600 }]);
}

export function parseStart(stdout: string): StartResult | undefined {
  const [kind, value = ""] = stdout.replace(/\n$/, "").split("\t");
  switch (kind) {
    case "started":
    case "adopted":
      return isPid(value) ? { kind, pid: Number(value) } : undefined;
    case "over":
    case "unknown":
      return { kind, why: cleanText(value, 300) };
    case "revoked":
      return { kind };
    default:
      return undefined;
  }
}

/** Takes the gate for good, unless the launch took it before. Idempotent. */
export async function revoke(
  transport: Transport,
  bundle: Bundle,
  run: string,
  launch: number,
): Promise<"revoked" | "taken"> {
  const result = await call(transport, bundle, "revoke", [run, String(launch)]);
  const answer = result.stdout.trim();
  if (result.code === 0 && (answer === "revoked" || answer === "taken")) return answer;
  throw workerFailed(`revoke launch ${launch} of ${run}`, result);
}

/** Whether the launch is proven over. `alive` without pids: there is no gate yet, so that it may still come; revoke first. */
export async function over(
  transport: Transport,
  bundle: Bundle,
  run: string,
  launch: number,
): Promise<Over> {
  const result = await call(transport, bundle, "over", [run, String(launch)]);
  return overOf(result, `look for launch ${launch} of ${run}`);
}

/** Revokes the gate, ends the launch's processes (TERM, after `graceMs` KILL), and says what is left. */
export async function stop(
  transport: Transport,
  bundle: Bundle,
  input: {
    readonly epoch: number;
    readonly run: string;
    readonly launch: number;
    readonly graceMs: number;
  },
): Promise<Over> {
  const { epoch, run, launch, graceMs } = input;
  const args = [bundle.hash, String(epoch), run, String(launch), String(graceMs)];
  const timeoutMs = graceMs + CALL_TIMEOUT_MS;
  const result = await call(transport, bundle, "stop", args, { timeoutMs });
  return overOf(result, `stop launch ${launch} of ${run}`);
}

function overOf(result: ExecResult, what: string): Over {
  const answer = result.code === 0 ? parseOver(result.stdout) : undefined;
  if (answer === undefined) throw workerFailed(what, result);
  return answer;
}

export function parseOver(stdout: string): Over | undefined {
  const [kind, ...rest] = stdout.replace(/\n$/, "").split("\t");
  if (kind === "over") return { kind, why: cleanText(rest[0] ?? "", 300) };
  return kind === "alive" && rest.every(isPid) ? { kind, pids: rest.map(Number) } : undefined;
}

/** The payload file's text. Empty when it is not there any more: a line must not become unreadable for ever with it. */
export async function payload(
  transport: Transport,
  bundle: Bundle,
  run: string,
  name: string,
): Promise<string> {
  const result = await call(transport, bundle, "payload", [run, name], {
    maxOutputBytes: MAX_PAYLOAD_BYTES,
  });
  if (result.code === WORKER_CODES.absent) return "";
  if (result.code !== 0) throw workerFailed(`read payload ${name} of ${run}`, result);
  return result.stdout;
}

/** The text on the agent's pane, without control characters, at most 16 kB. `not_found` when there is no such window. */
export async function screen(
  transport: Transport,
  bundle: Bundle,
  session: string,
): Promise<string> {
  const result = await call(transport, bundle, "screen", [session]);
  expectPane(result, `read the screen of ${session}`, session);
  return result.stdout.replace(/[^\P{Cc}\n\t]/gu, "").replace(/\n+$/, "");
}

/** Renames the agent's window to `agent:<status>`; the reason is shown beside it. `not_found` when there is no such window. */
export async function nameWindow(
  transport: Transport,
  bundle: Bundle,
  session: string,
  status: string,
  reason: string,
): Promise<void> {
  const args = [session, status, cleanText(reason, MAX_REASON_LENGTH)];
  const result = await call(transport, bundle, "name", args);
  expectPane(result, `name the window of ${session}`, session);
}

/** Makes sure that a guard runs in the session. `not_found` when there is no such session. */
export async function keepGuard(
  transport: Transport,
  bundle: Bundle,
  session: string,
): Promise<"running" | "restarted" | "opened"> {
  const result = await call(transport, bundle, "guard-window", [session]);
  expectPane(result, `look after the guard of ${session}`, session);
  const answer = result.stdout.trim();
  if (answer === "running" || answer === "restarted" || answer === "opened") return answer;
  throw workerFailed(`look after the guard of ${session}`, result);
}

/** Sends keys by their tmux names. `not_found` when no program runs in the agent's pane, or a person reads in it. */
export async function sendKeys(
  transport: Transport,
  bundle: Bundle,
  session: string,
  keys: readonly string[],
): Promise<void> {
  const result = await call(transport, bundle, "keys", [session, ...keys]);
  expectPane(result, `send keys to ${session}`, session);
}

/** Pastes into the agent's pane, without Enter. `invalid_input` for an empty text or one with control characters. */
export async function paste(
  transport: Transport,
  bundle: Bundle,
  session: string,
  text: string,
): Promise<void> {
  if (text === "" || /[^\P{Cc}\n\t]/u.test(text)) {
    throw new OrchestratorError(
      "invalid_input",
      "a text to paste is not empty and holds no control characters but newline and tab",
    );
  }
  const result = await call(transport, bundle, "paste", [session], { stdin: text });
  expectPane(result, `paste into ${session}`, session);
}

function expectPane(result: ExecResult, what: string, session: string): void {
  if (result.code === 0) return;
  if (result.code !== NO_LIVE_PANE) throw workerFailed(what, result);
  const why = cleanText(result.stderr, 200);
  throw new OrchestratorError(
    "not_found",
    `session ${session} has no agent to reach${why === "" ? "" : `: ${why}`}`,
  );
}

const call = (
  transport: Transport,
  bundle: Bundle,
  script: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> =>
  execWorker(transport, bundle, script, args, { timeoutMs: CALL_TIMEOUT_MS, ...options });

const isPid = (text: string): boolean => /^[1-9]\d{0,9}$/.test(text);
