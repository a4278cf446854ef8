import { OrchestratorError } from "../domain/errors.ts";
import type { ExecResult } from "./transport.ts";

/**
 * $1 path, $2 mode, $3 size. A cut link ends stdin early, so the size is checked before the file gets its name. `mv -T`
 * never moves into a directory of that name.
 */
export const UPLOAD_SCRIPT = `set -eu
umask 077
case $1 in /*) path=$1 ;; *) path=$HOME/$1 ;; esac
dir=\${path%/*}
mkdir -p "$dir/"
temporary=$(mktemp "$dir/.upload.XXXXXX")
trap 'rm -f "$temporary"' EXIT
trap 'exit 70' HUP INT TERM PIPE
cat >"$temporary"
[ "$(wc -c <"$temporary")" -eq "$3" ] || { echo "only a part arrived" >&2; exit 70; }
chmod "$2" "$temporary"
sync "$temporary" 2>/dev/null || sync
mv -fT "$temporary" "$path"
sync "$dir/" 2>/dev/null || sync
`;

/** The script's arguments; a path that names no file is `invalid_input`. */
export function uploadArguments(path: string, mode: number, size: number): string[] {
  const name = path.split("/").at(-1);
  if (name === undefined || name === "" || name === "." || name === "..") {
    throw new OrchestratorError("invalid_input", `${JSON.stringify(path)} does not name a file`);
  }
  return [path, (mode & 0o7777).toString(8), String(size)];
}

/** Throws when the worker said that the file was not written. */
export function checkUploaded(path: string, result: ExecResult): void {
  if (result.code === 0) return;
  throw new OrchestratorError("internal", `the file ${path} could not be written on the worker`, {
    hint: "look at the free space and the permissions of the worker",
    details: {
      exit_code: result.code,
      signal: result.signal,
      stderr: result.stderr.slice(0, 2_000),
    },
  });
}
