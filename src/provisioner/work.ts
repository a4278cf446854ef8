import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import type { ExecStream, Transport } from "../transport/transport.ts";
import {
  execWorker,
  installBundle,
  needsInstall,
  WORKER_CODES,
  workerArgv,
  workerFailed,
  type Bundle,
} from "./bundle.ts";
import type { Saved, WorkReport } from "./provisioner.ts";

/** A first snapshot of a large repository reads every file. */
const SAVE_TIMEOUT_MS = 10 * 60_000;
const READ_TIMEOUT_MS = 2 * 60_000;
const PUSH_TIMEOUT_MS = 10 * 60_000;
const MAX_LIST_BYTES = 16 * 1024 * 1024;
const MAX_TEXT = 1_000;
const INCOMPLETE = 32;
const SHA = /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/;

/** Snapshots all of the clone into the worker's private store. `number` must be new for this run and epoch. */
export async function save(
  transport: Transport,
  bundle: Bundle,
  input: {
    readonly epoch: number;
    readonly run: string;
    readonly number: number;
    readonly repo: string;
  },
): Promise<Saved> {
  const { epoch, run, number, repo } = input;
  const result = await execWorker(
    transport,
    bundle,
    "save",
    [bundle.hash, String(epoch), run, String(number), repo],
    {
      timeoutMs: SAVE_TIMEOUT_MS,
      maxOutputBytes: MAX_LIST_BYTES,
    },
  );
  if (result.code !== 0 && result.code !== INCOMPLETE)
    throw workerFailed(`save the work in ${repo}`, result);
  const { saved, dropped } = parseSaved(
    result.stdout,
    `refs/orchestrator/${run}/${epoch}/${number}/`,
  );
  // A line that was not understood may have said that something is not saved.
  const complete =
    result.code === 0 && !result.truncated && dropped === 0 && saved.unsaved.length === 0;
  return { ...saved, complete: complete && saved.fingerprint !== null };
}

/** What `save` prints. `dropped` counts the lines that are none of it; a ref outside `prefix` is one. */
export function parseSaved(
  stdout: string,
  prefix: string,
): { saved: Omit<Saved, "complete">; dropped: number } {
  const refs: { name: string; sha: string }[] = [];
  const skipped: { why: string; path: string }[] = [];
  const unsaved: { why: string; path: string }[] = [];
  let head: string | null = null;
  let branch: string | null = null;
  let fingerprint: string | null = null;
  let dropped = 0;
  for (const [kind = "", first = "", second = "", ...rest] of fieldsOf(stdout)) {
    if (kind === "ref" && first.startsWith(prefix) && SHA.test(second) && rest.length === 0) {
      refs.push({ name: cleanText(first, MAX_TEXT), sha: second });
    } else if ((kind === "skipped" || kind === "unsaved") && second !== "" && rest.length === 0) {
      (kind === "skipped" ? skipped : unsaved).push({
        why: cleanText(first, 40),
        path: cleanText(second, MAX_TEXT),
      });
    } else if (kind === "head" && SHA.test(first)) head = first;
    else if (kind === "branch" && first !== "") branch = cleanText(first, MAX_TEXT);
    else if (kind === "fingerprint" && isFingerprint(first)) fingerprint = first;
    else dropped += 1;
  }
  return { saved: { refs, skipped, unsaved, head, branch, fingerprint }, dropped };
}

/** Whether the clone changed since: null when there is no clone. */
export async function fingerprint(
  transport: Transport,
  bundle: Bundle,
  repo: string,
): Promise<string | null> {
  const result = await execWorker(transport, bundle, "fingerprint", [repo], {
    timeoutMs: READ_TIMEOUT_MS,
  });
  if (result.code === WORKER_CODES.absent) return null;
  const value = /^fingerprint\t(\S+)\n$/.exec(result.stdout)?.[1];
  if (result.code !== 0 || value === undefined || !isFingerprint(value)) {
    throw workerFailed(`read the state of ${repo}`, result);
  }
  return value;
}

/** Whether the work tree holds work that no commit has. */
export async function uncommitted(
  transport: Transport,
  bundle: Bundle,
  repo: string,
): Promise<boolean> {
  const result = await execWorker(transport, bundle, "uncommitted", [repo], {
    timeoutMs: READ_TIMEOUT_MS,
  });
  const answer = result.stdout.trim();
  if (result.code !== 0 || (answer !== "yes" && answer !== "no"))
    throw workerFailed(`look for work without a commit in ${repo}`, result);
  return answer === "yes";
}

/** Commits after `base`, newest first (at most 200), and what changed from `base` to the work tree. `not_found` when `base` is not there. */
export async function report(
  transport: Transport,
  bundle: Bundle,
  repo: string,
  base: string,
): Promise<WorkReport> {
  const result = await execWorker(transport, bundle, "report", [repo, base], {
    timeoutMs: READ_TIMEOUT_MS,
  });
  if (result.code === WORKER_CODES.absent) {
    throw new OrchestratorError(
      "not_found",
      `the commit ${base.slice(0, 12)} is not in ~/${repo} of the worker`,
    );
  }
  const lines = fieldsOf(result.stdout);
  const stat = lines.find(
    ([kind, ...numbers]) => kind === "stat" && numbers.every((text) => /^\d{1,9}$/.test(text)),
  );
  if (result.code !== 0 || stat === undefined) throw workerFailed(`report on ${repo}`, result);
  const [files = 0, insertions = 0, deletions = 0] = stat.slice(1).map(Number);
  const commits = lines.flatMap(([kind, sha = "", ...subject]) =>
    kind === "commit" && SHA.test(sha) ? [{ sha, subject: cleanText(subject.join(" "), 200) }] : [],
  );
  return { commits, files, insertions, deletions };
}

/** Pushes the branch as it is on the worker, never by force. */
export async function push(
  transport: Transport,
  bundle: Bundle,
  repo: string,
  branch: string,
): Promise<{ kind: "pushed"; sha: string } | { kind: "failed"; why: string }> {
  const result = await execWorker(transport, bundle, "push", [repo, branch], {
    timeoutMs: PUSH_TIMEOUT_MS,
  });
  const [kind, value = ""] = fieldsOf(result.stdout).at(-1) ?? [];
  if (result.code === 0 && kind === "pushed" && SHA.test(value)) return { kind, sha: value };
  if (result.code === 0 && kind === "failed") return { kind, why: cleanText(value, 500) };
  throw workerFailed(`push ${branch}`, result);
}

/**
 * A git bundle of the refs below `prefix`, thin against the commits in `have`. Its `bytes` end without any when there are no such
 * refs, and throw when the bundle is not whole.
 */
export async function bundleRefs(
  transport: Transport,
  bundle: Bundle,
  input: { readonly repo: string; readonly prefix: string; readonly have: readonly string[] },
): Promise<ExecStream> {
  const argv = workerArgv("bundle", [input.repo, input.prefix]);
  const stdin = input.have.map((sha) => `${sha}\n`).join("");
  const open = async () => {
    const stream = await transport.stream(argv, { stdin });
    const bytes = stream.bytes[Symbol.asyncIterator]();
    return { stream, bytes, first: await bytes.next() };
  };
  let opened = await open();
  if (opened.first.done === true && needsInstall((await opened.stream.result).code)) {
    await installBundle(transport, bundle);
    opened = await open();
  }
  const { stream, bytes, first } = opened;
  return {
    ...stream,
    bytes: whole(stream, first, bytes, input.repo),
    [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
  };
}

async function* whole(
  stream: ExecStream,
  first: IteratorResult<Uint8Array>,
  rest: AsyncIterator<Uint8Array>,
  repo: string,
): AsyncGenerator<Uint8Array> {
  try {
    for (let next = first; next.done !== true; next = await rest.next()) yield next.value;
    const exit = await stream.result;
    const nothing = first.done === true && exit.code === WORKER_CODES.absent;
    if (exit.code !== 0 && !nothing) throw workerFailed(`bundle the snapshots of ${repo}`, exit);
  } finally {
    stream.close();
  }
}

const isFingerprint = (text: string): boolean => /^f1-[0-9a-f]{64}$/.test(text);

const fieldsOf = (stdout: string): string[][] =>
  stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t"));
