import { createHash } from "node:crypto";

import { OrchestratorError } from "../domain/errors.ts";
import type { Transport } from "../transport/transport.ts";
import { WORKER_CODES, workerFailed } from "./bundle.ts";
import type { StepName } from "./provisioner.ts";

const TIMEOUT_MS = 30_000;
const MAX_JSON_BYTES = 16 * 1024 * 1024;
const CHANGED = 73;

const READ = `[ -e "$1" ] || exit ${WORKER_CODES.absent}
cat -- "$1"`;

/**
 * $1 path below $HOME, $2 the hash that it must have (empty: it must be absent), $3 the bytes that must arrive. A link is
 * followed, so that it stays one; the mode stays. The program that owns the file may write at the same moment: the time
 * between the last look and the rename is a few milliseconds.
 */
const WRITE = `set -eu
umask 077
path=$HOME/$1
! [ -L "$path" ] || path=$(readlink -f -- "$path")
mkdir -p -- "\${path%/*}"
mkdir -p -- "$HOME/.orchestrator/locks"
exec 9>"$HOME/.orchestrator/locks/json"
flock -x 9
new=$path.orchestrator.$$
trap 'rm -f -- "$new"' EXIT
trap 'exit 70' HUP INT TERM PIPE
cat >"$new"
[ "$(wc -c <"$new")" -eq "$3" ]
[ ! -e "$path" ] || chmod --reference="$path" -- "$new" 2>/dev/null || :
sync -- "$new" 2>/dev/null || sync
hash=
[ ! -e "$path" ] || { hash=$(sha256sum <"$path") && hash=\${hash%% *}; }
[ "$hash" = "$2" ] || exit ${CHANGED}
mv -fT -- "$new" "$path"
`;

const TAIL = `[ -e "$1" ] || exit ${WORKER_CODES.absent}
tail -c "$2" -- "$1"`;

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** Reads a JSON file below `$HOME`; null when it is absent. `invalid_input` when it is no JSON. */
export async function readJson(
  transport: Transport,
  path: string,
): Promise<{ value: unknown; hash: string } | null> {
  const result = await transport.script(READ, [relative(path)], {
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: MAX_JSON_BYTES,
  });
  if (result.code === WORKER_CODES.absent) return null;
  if (result.code !== 0) throw workerFailed(`read ~/${path}`, result);
  if (result.truncated)
    throw new OrchestratorError("internal", `~/${path} on the worker is larger than 16 MiB`);
  try {
    return { value: JSON.parse(result.stdout) as unknown, hash: sha256(result.stdout) };
  } catch (cause) {
    throw new OrchestratorError("invalid_input", `~/${path} on the worker is not JSON`, {
      hint: "mend or remove that file on the worker",
      cause,
    });
  }
}

/** Replaces the file only when its content still has `expectedHash` (null: it is still absent); false when it changed. */
export async function writeJson(
  transport: Transport,
  path: string,
  value: unknown,
  expectedHash: string | null,
): Promise<boolean> {
  const content = Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
  const args = [relative(path), expectedHash ?? "", String(content.length)];
  const result = await transport.script(WRITE, args, { stdin: content, timeoutMs: TIMEOUT_MS });
  if (result.code === CHANGED) return false;
  if (result.code !== 0) throw workerFailed(`write ~/${path}`, result);
  return true;
}

/** The last `maxBytes` of a file given by its absolute path; null when it is absent. A character cut in two is left out. */
export async function readTail(
  transport: Transport,
  path: string,
  maxBytes: number,
): Promise<string | null> {
  if (!path.startsWith("/"))
    throw new OrchestratorError("invalid_input", `${JSON.stringify(path)} is not absolute`);
  return tail(transport, path, maxBytes);
}

/** The last `maxBytes` of what a step of a job said; null when the job had no such step, or its log is gone. */
export function stepLog(
  transport: Transport,
  input: { readonly job: string; readonly step: StepName },
  maxBytes: number,
): Promise<string | null> {
  return tail(transport, relative(`.orchestrator/jobs/${input.job}/${input.step}.log`), maxBytes);
}

async function tail(transport: Transport, path: string, maxBytes: number): Promise<string | null> {
  const result = await transport.script(TAIL, [path, String(maxBytes)], {
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: maxBytes + 4,
  });
  if (result.code === WORKER_CODES.absent) return null;
  if (result.code !== 0) throw workerFailed(`read ${path}`, result);
  return result.stdout.replace(/^\ufffd{1,3}/, "");
}

/** A path below `$HOME` that cannot leave it by its text. */
function relative(path: string): string {
  const parts = path.split("/");
  if (path === "" || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new OrchestratorError(
      "invalid_input",
      `${JSON.stringify(path)} is no path below the home folder`,
    );
  }
  return path;
}
