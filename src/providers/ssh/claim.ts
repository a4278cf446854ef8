import { z } from "zod";

import { isName } from "../../domain/names.ts";

/*
 * A host is taken by one file on it, `~/.orchestrator/claim`, made by a hard link: of several fleets at once one wins, and the file is there
 * whole or not at all. The worker's scripts read from it which processes are the worker's and where its tmux listens.
 */

export interface Claim {
  readonly id: string;
  readonly name: string;
  readonly fleetId: string;
  readonly nonce: string;
  readonly createdAt: number;
  /** Folder of the tmux socket; empty: tmux's default. */
  readonly tmuxDir: string;
}

/** What a host that answers says of itself. */
export type Seen =
  | { readonly kind: "free" }
  | { readonly kind: "claimed"; readonly claim: Claim }
  /** Somebody's, but nobody can say which worker it is. `owner`: the fleet that says so. */
  | { readonly kind: "foreign"; readonly owner: string | null };

const text = z.string().regex(/^[\x21-\x7e]{1,200}$/);
const claimSchema = z.object({
  id: text,
  name: z.string().refine(isName),
  fleet: text,
  nonce: text,
  created: z.coerce.number().int().min(0),
  tmux: z.union([z.literal(""), z.string().regex(/^\/[\x20-\x7e]{1,200}$/)]),
});

const HEAD = `umask 077
LC_ALL=C
export LC_ALL
so=$HOME/.orchestrator
look() {
  if [ -e "$so/claim" ]; then
    cat "$so/claim" || exit 70
    echo
  elif [ -e "$so/owner" ]; then
    printf 'owner='
    cat "$so/owner" || exit 70
  fi
  echo end
}
[ -d "$HOME" ] && [ -r "$HOME" ] || { echo "the home folder cannot be read" >&2; exit 70; }
`;

/** Changes nothing. Prints the claim's lines (or the owner of a folder without one), then `end`. */
export const LOOK = `${HEAD}look
`;

/**
 * $1 id, $2 name, $3 fleet, $4 nonce, $5 time, $6 shared yes|no, $7 repo, $8 blob of our key. Takes the host if nobody has it, then looks. Exit 31: it cannot
 * serve this repo, stderr says why. Repeating it changes nothing.
 */
export const TAKE = `set -eu
${HEAD}
refuse() { echo "$1" >&2; exit 31; }
take() {
  owner=
  [ ! -e "$so/owner" ] || read -r owner <"$so/owner" || :
  [ -z "$owner" ] || [ "$owner" = "$3" ] || return 0
  for tool in git tmux flock setsid stat tail; do
    command -v "$tool" >/dev/null 2>&1 || refuse "$tool is not installed"
  done
  [ -r /proc/sys/kernel/random/boot_id ] || refuse "it is no Linux system"
  [ ! -e "$HOME/$7" ] && [ ! -L "$HOME/$7" ] || refuse "~/$7 is there already, and is not the orchestrator's: move it away, or name another account"
  tmux_dir=
  if [ "$6" = yes ]; then
    tmux_dir=$so/tmux
    # A socket's path has room for 107 bytes.
    [ "\${#tmux_dir}" -le 83 ] || tmux_dir=/tmp/orchestrator-\${1##*:}
  elif tmux -u has-session -t "=$7-dev" 2>/dev/null; then
    refuse "somebody has a tmux session $7-dev there"
  fi
  key=added
  if grep -qsF -- " $8" "$HOME/.ssh/authorized_keys"; then key=there; fi
  mkdir -p -m 0700 "$so"
  new=$so/.claim.$$
  trap 'rm -f "$new"' EXIT
  printf '%s\\n' "id=$1" "name=$2" "fleet=$3" "nonce=$4" "created=$5" "tmux=$tmux_dir" "key=$key" >"$new"
  sync "$new" 2>/dev/null || sync
  ln "$new" "$so/claim" 2>/dev/null || :
  rm -f "$new"
}
if [ ! -e "$so/claim" ]; then take "$@"; fi
if grep -qxF -- "id=$1" "$so/claim" 2>/dev/null; then
  tmux_dir=$(sed -n 's/^tmux=//p' "$so/claim")
  [ -z "$tmux_dir" ] || [ -d "$tmux_dir" ] || mkdir -m 0700 "$tmux_dir"
  if [ ! -e "$so/owner" ]; then
    printf '%s\\n' "$3" >"$so/.owner.$$"
    ln "$so/.owner.$$" "$so/owner" 2>/dev/null || :
    rm -f "$so/.owner.$$"
  fi
  sync "$so" 2>/dev/null || sync
fi
look
`;

/**
 * $1 id, $2 repo, $3 session, $4 blob of our key. Gives the host back: ends what carries the worker's mark, then removes the clone, what is in
 * /tmp, our key if it came with us, and ~/.orchestrator, the claim last. Does nothing when the claim is not that id's. Goes on where a
 * former one was cut. Prints what LOOK prints. Exit 32: processes do not end.
 */
export const RELEASE = `set -eu
${HEAD}
mine() { grep -qxF -- "id=$1" "$so/claim" 2>/dev/null; }
if ! mine "$1"; then look; exit 0; fi
tmux_dir=$(sed -n 's/^tmux=//p' "$so/claim")
if [ -n "$tmux_dir" ]; then
  [ ! -d "$tmux_dir" ] || TMUX_TMPDIR=$tmux_dir tmux -u kill-server 2>/dev/null || :
else
  tmux -u kill-session -t "=$3" 2>/dev/null || :
fi
left=
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
  left=
  for found in $(grep -lszxF -- "ORCHESTRATOR_WORKER=$1" /proc/[0-9]*/environ || :); do
    found=\${found#/proc/}
    found=\${found%/environ}
    grep -qs '^State:.[ZX]' "/proc/$found/status" && continue
    left="$left $found"
    if [ "$round" -lt 5 ]; then kill -s TERM "$found" 2>/dev/null || :; else kill -s KILL "$found" 2>/dev/null || :; fi
  done
  [ -n "$left" ] || break
  sleep 0.3
done
[ -z "$left" ] || { echo "the processes$left do not end" >&2; exit 32; }
gone() {
  [ -e "$1" ] || [ -L "$1" ] || return 0
  rm -rf -- "$1" 2>/dev/null || { chmod -R u+rwX -- "$1"; rm -rf -- "$1"; }
}
mine "$1" || { look; exit 0; }
gone "$HOME/$2"
for half in "$HOME/.$2.cloning."*; do gone "$half"; done
case $tmux_dir in /tmp/orchestrator-*) gone "$tmux_dir" ;; esac
keys=$HOME/.ssh/authorized_keys
if [ -n "$4" ] && grep -qxF key=added "$so/claim" && grep -qsF -- " $4" "$keys"; then
  keys=$(readlink -f -- "$keys")
  cp -p -- "$keys" "$keys.$$"
  grep -vF -- " $4" "$keys" >"$keys.$$" || :
  mv -f -- "$keys.$$" "$keys"
fi
for one in "$so"/* "$so"/.[!.]*; do
  [ "$one" = "$so/claim" ] || gone "$one"
done
mine "$1" || { look; exit 0; }
rm -f -- "$so/claim"
rmdir -- "$so" 2>/dev/null || :
look
`;

/** Exit code of TAKE that is an answer. */
export const CANNOT_SERVE = 31;

/** What LOOK printed. Undefined when it did not arrive whole. */
export function parseSeen(stdout: string): Seen | undefined {
  const lines = stdout.split("\n").filter((line) => line !== "");
  if (lines.indexOf("end") !== lines.length - 1) return undefined;
  const fields = new Map<string, string>();
  for (const line of lines.slice(0, -1)) {
    const at = line.indexOf("=");
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 1));
  }
  if (lines.length === 1) return { kind: "free" };
  const parsed = claimSchema.safeParse(Object.fromEntries(fields));
  if (parsed.success) {
    const { id, name, fleet, nonce, created, tmux } = parsed.data;
    const claim = { id, name, fleetId: fleet, nonce, createdAt: created, tmuxDir: tmux };
    return { kind: "claimed", claim };
  }
  return { kind: "foreign", owner: fields.get("owner") ?? null };
}
