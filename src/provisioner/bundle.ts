import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { OrchestratorError } from "../domain/errors.ts";
import { cleanText } from "../domain/text.ts";
import type { ExecOptions, ExecResult, Transport } from "../transport/transport.ts";
import { tar } from "./tar.ts";

/** The worker scripts of this installation, as one upload. */
export interface Bundle {
  /** Hash over names and contents; what `bin/VERSION` holds on a worker. */
  readonly hash: string;
  readonly archive: Uint8Array;
}

/** Exit codes that every worker script shares (provision/README.md). */
export const WORKER_CODES = {
  usage: 64,
  absent: 66,
  fenced: 75,
  otherBundle: 78,
  noScript: 127,
} as const;

const INSTALL_TIMEOUT_MS = 60_000;

/**
 * Unpacks stdin to `bundles/<hash>` and moves the link `bin` to it: both by rename, so that a reader sees the old or the
 * new scripts, whole. VERSION is the archive's last file: with it, all arrived. A folder of that name is kept when it
 * holds the same bytes (jobs may run from it), and put aside when a crash left it damaged.
 */
const INSTALL = `set -eu
umask 077
hash=$1
so=$HOME/.orchestrator
bundles=$so/bundles
mkdir -p "$bundles"
new=$bundles/.new-$hash-$$
trap 'rm -rf "$new"' EXIT
trap 'exit 70' HUP INT TERM PIPE
mkdir "$new"
tar -xf - -C "$new"
read -r version <"$new/VERSION"
[ "$version" = "$hash" ]
# Two at once would each take the other's for damaged.
exec 9>"$bundles/.lock"
flock -x 9
same=yes
for file in "$new"/*; do
  cmp -s "$file" "$bundles/$hash/\${file##*/}" || same=no
done
if [ "$same" = no ]; then
  sync
  [ ! -e "$bundles/$hash" ] || mv -T "$bundles/$hash" "$bundles/.damaged-$hash-$$"
  mv -T "$new" "$bundles/$hash"
fi
if [ "$(readlink "$so/bin" 2>/dev/null)" != "bundles/$hash" ]; then
  [ ! -d "$so/bin" ] || [ -L "$so/bin" ] || mv -T "$so/bin" "$bundles/.former-$$"
  ln -s "bundles/$hash" "$so/.bin-$$"
  mv -T "$so/.bin-$$" "$so/bin"
fi
# What killed installs left, and bundles that nothing can run from any more.
find "$bundles" -mindepth 1 -maxdepth 1 \\( -name '.[!l]*' -mmin +60 -o -mtime +30 ! -name "$hash" \\) -exec rm -rf {} + 2>/dev/null || :
`;

/** Reads the scripts in `folder` (provision/worker); the same files give the same hash. */
export function loadBundle(folder: string): Bundle {
  const names = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
    .map((entry) => entry.name)
    .sort();
  const files = names.map((name) => ({
    name,
    content: readFileSync(join(folder, name)),
    mode: 0o755,
  }));
  const digest = createHash("sha256");
  for (const { name, content } of files)
    digest.update(`${name}\0${content.length}\0`).update(content);
  const hash = digest.digest("hex").slice(0, 32);
  const version = { name: "VERSION", content: Buffer.from(`${hash}\n`), mode: 0o644 };
  return { hash, archive: tar([...files, version]) };
}

/** Installs the bundle on a worker. Safe beside another install and beside jobs that run from an older bundle. Idempotent. */
export async function installBundle(transport: Transport, bundle: Bundle): Promise<void> {
  const result = await transport.script(INSTALL, [bundle.hash], {
    stdin: bundle.archive,
    timeoutMs: INSTALL_TIMEOUT_MS,
  });
  if (result.code !== 0) throw workerFailed("install the worker scripts", result);
}

/** The argv of a worker script; the transport starts it in `$HOME`. */
export const workerArgv = (script: string, args: readonly string[]): string[] => [
  `.orchestrator/bin/${script}`,
  ...args,
];

export function needsInstall(code: number | null): boolean {
  return code === WORKER_CODES.otherBundle || code === WORKER_CODES.noScript;
}

/** Runs a worker script; where it is absent or of another bundle, installs the bundle once and runs it again. */
export async function execWorker(
  transport: Transport,
  bundle: Bundle,
  script: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const argv = workerArgv(script, args);
  const first = await transport.exec(argv, options);
  const result = needsInstall(first.code)
    ? await installBundle(transport, bundle).then(() => transport.exec(argv, options))
    : first;
  if (result.code === WORKER_CODES.fenced) throw fenced(script, result.stdout);
  return result;
}

/** `lease_stale` with the highest epoch that the worker has seen. */
export function fenced(what: string, stdout: string): OrchestratorError {
  const highest = /^fenced\t(\d{1,15})$/m.exec(stdout)?.[1];
  return new OrchestratorError(
    "lease_stale",
    `the worker refused ${what}: a higher epoch was seen there`,
    {
      details: { highest_epoch: highest === undefined ? null : Number(highest) },
    },
  );
}

/** An exit code that the contract does not foresee for this call. */
export function workerFailed(what: string, result: ExecResult): OrchestratorError {
  const why = cleanText(result.stderr.trimEnd().split("\n").at(-1) ?? "", 300);
  const how = result.code === null ? `signal ${result.signal}` : `exit code ${result.code}`;
  return new OrchestratorError(
    "internal",
    `the worker could not ${what}: ${why === "" ? how : why}`,
    {
      details: { exit_code: result.code, signal: result.signal },
    },
  );
}
