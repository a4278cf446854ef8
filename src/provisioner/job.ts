import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import { TransportError } from "../transport/transport-error.ts";
import type { ExecResult, Transport } from "../transport/transport.ts";
import {
  fenced,
  installBundle,
  needsInstall,
  WORKER_CODES,
  workerArgv,
  workerFailed,
  type Bundle,
} from "./bundle.ts";
import type { JobLine, JobRequest, JobResult, StepName } from "./provisioner.ts";

const MAX_TEXT = 2_000;

type End = { readonly kind: "end"; readonly code: number | "lost" };

/**
 * Has the steps run once as this job, or follows the job of that name that runs or ran. Rejects with `lease_stale` when a higher
 * epoch came up, with `TransportError` when the connection was lost or the time is up: the job runs on then, and calling this again
 * follows it.
 */
export async function runJob(
  transport: Transport,
  bundle: Bundle,
  request: JobRequest,
  onLine: (line: JobLine) => void,
): Promise<JobResult> {
  const stdin = parameterLines(request.params);
  const timeout = AbortSignal.timeout(request.timeoutMs);
  const signal =
    request.signal === undefined ? timeout : AbortSignal.any([request.signal, timeout]);
  try {
    const first = await readJob(transport, bundle, request, { stdin, signal }, onLine);
    if (first.kind === "read") return first.result;
    await installBundle(transport, bundle);
    const second = await readJob(transport, bundle, request, { stdin, signal }, onLine);
    if (second.kind === "read") return second.result;
    throw workerFailed("run a job", second.exit);
  } catch (error) {
    if (!timeout.aborted || request.signal?.aborted === true) throw error;
    throw new TransportError(
      "timeout",
      "unknown",
      `job ${request.job} did not end within ${request.timeoutMs} ms`,
      {
        cause: error,
      },
    );
  }
}

type Read =
  | { readonly kind: "read"; readonly result: JobResult }
  | { readonly kind: "not-installed"; readonly exit: ExecResult };

async function readJob(
  transport: Transport,
  bundle: Bundle,
  request: JobRequest,
  options: { stdin: string; signal: AbortSignal },
  onLine: (line: JobLine) => void,
): Promise<Read> {
  const args = [bundle.hash, String(request.epoch), request.job, ...request.steps];
  await using stream = await transport.stream(workerArgv("job", args), options);
  const result = new ResultReader();
  let other = "";
  for await (const text of stream.lines) {
    const line = parseJobLine(text, request.steps);
    if (line === undefined)
      other += `${text.slice(0, MAX_TEXT)}\n`.slice(0, Math.max(0, MAX_TEXT - other.length));
    else if (line.kind === "end") {
      result.end = line.code;
      // The record says that all is done: how its reader ends is not waited for.
      if (line.code === 0) return { kind: "read", result: result.finish(request, SUCCESS) };
    } else {
      result.take(line);
      onLine(line);
    }
  }
  const exit = await stream.result;
  if (needsInstall(exit.code)) return { kind: "not-installed", exit };
  if (exit.code === WORKER_CODES.fenced || result.end === WORKER_CODES.fenced)
    throw fenced(`job ${request.job}`, other);
  return { kind: "read", result: result.finish(request, exit) };
}

const SUCCESS: ExecResult = { code: 0, signal: null, stdout: "", stderr: "", truncated: false };

/** Gathers the lines of a job to its result. */
class ResultReader {
  end: number | "lost" | undefined;
  #worker: Extract<JobLine, { kind: "worker" }> | undefined;
  #failed: { step: StepName; code: number; tail: string[] } | null = null;
  readonly #facts: Record<string, string> = Object.create(null) as Record<string, string>;

  take(line: JobLine): void {
    switch (line.kind) {
      case "worker":
        this.#worker = line;
        break;
      case "fact":
        this.#facts[`${line.step}.${line.key}`] = line.value;
        break;
      case "fail":
        this.#failed = { step: line.step, code: line.code, tail: [] };
        break;
      case "tail":
        if (this.#failed?.step === line.step) this.#failed.tail.push(line.text);
        break;
      case "start":
      case "done":
      case "skip":
        break;
    }
  }

  finish(request: JobRequest, exit: ExecResult): JobResult {
    const { end } = this;
    if (exit.code !== 0 || end === undefined || this.#worker === undefined) {
      throw workerFailed(`say how job ${request.job} ended`, exit);
    }
    if (typeof end === "number" && end !== 0 && this.#failed === null) {
      throw workerFailed(`say which step of job ${request.job} failed`, exit);
    }
    const { home, uid, bootId } = this.#worker;
    return {
      code: end,
      failed: end === 0 || end === "lost" ? null : this.#failed,
      facts: { ...this.#facts },
      home,
      uid,
      bootId,
    };
  }
}

/** One progress line (provision/README.md, "job"); undefined when it is none, or names a step that was not asked for. */
export function parseJobLine(text: string, steps: readonly StepName[]): JobLine | End | undefined {
  const fields = text.split("\t");
  const [kind, first = "", second = "", third = ""] = fields;
  const step = steps.find((name) => name === first);
  const ms = natural(second);
  if (kind === "worker" && fields.length === 4) {
    const uid = natural(second);
    const plain =
      first.startsWith("/") &&
      cleanText(first, MAX_TEXT) === first &&
      /^[0-9a-f-]{8,64}$/.test(third);
    return plain && uid !== undefined ? { kind, home: first, uid, bootId: third } : undefined;
  }
  if (kind === "end" && fields.length === 2) {
    const code = first === "lost" ? first : natural(first);
    return code === undefined ? undefined : { kind, code };
  }
  if (step === undefined) return undefined;
  switch (kind) {
    case "start":
      return fields.length === 3 && ms !== undefined ? { kind, step } : undefined;
    case "fact":
      return fields.length === 4 && /^[a-z][a-z0-9_]*$/.test(second)
        ? { kind, step, key: second, value: cleanText(third, MAX_TEXT) }
        : undefined;
    case "done":
      return fields.length === 3 && ms !== undefined ? { kind, step, ms } : undefined;
    case "skip":
      return fields.length === 4 && ms !== undefined
        ? { kind, step, ms, why: cleanText(third, MAX_TEXT) }
        : undefined;
    case "fail": {
      const code = natural(third);
      return fields.length === 4 && ms !== undefined && code !== undefined
        ? { kind, step, ms, code }
        : undefined;
    }
    case "tail":
      return fields.length >= 3
        ? { kind, step, text: cleanText(fields.slice(2).join(" "), MAX_TEXT) }
        : undefined;
    default:
      return undefined;
  }
}

const natural = (text: string): number | undefined =>
  /^\d{1,15}$/.test(text) ? Number(text) : undefined;

/** `KEY=VALUE` lines and the word that says that all arrived. A line break or NUL in a value is `invalid_input`. */
export function parameterLines(params: Readonly<Record<string, string>>): string {
  const lines = Object.entries(params).map(([key, value]) => {
    if (/[\n\r\0]/.test(value)) {
      throw new OrchestratorError(
        "invalid_input",
        `the parameter ${key} holds a line break or NUL`,
      );
    }
    return `${key}=${value}\n`;
  });
  return `${lines.join("")}END\n`;
}
