import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";

/** Everything below the orchestrator's home. */
export interface HomePaths {
  readonly home: string;
  readonly config: string;
  readonly database: string;
  /** Where CLI and controller meet; outside `home` when that is too long for a socket. */
  readonly socket: string;
  readonly controllerLock: string;
  readonly controllerLog: string;
  readonly mirrors: string;
  /** Workers of this machine. */
  readonly local: string;
  readonly logs: string;
  /** Where the silent check writes when its log cannot be written. */
  readonly statusLog: string;
  /** What that log was told last. */
  readonly statusSeen: string;
  /** The check as a script, for cron and other schedulers. */
  readonly checkScript: string;
  readonly sshKey: string;
  readonly sshPublicKey: string;
}

/** `sun_path` holds 104 bytes on macOS and 108 on Linux, with its closing NUL. */
const MAX_SOCKET_BYTES = 103;

/** Fixed, not TMPDIR: every process of one home must find the same socket, whoever started it. */
const SOCKET_ROOT = "/tmp";

/** Pure: touches nothing. `home` is absolute. */
export function homePaths(home: string): HomePaths {
  const below = (name: string) => join(home, name);
  return {
    home,
    config: below("config.yaml"),
    database: below("coordination.db"),
    socket: socketPath(home),
    controllerLock: below("controller.lock.db"),
    controllerLog: below("controller.log"),
    mirrors: below("mirrors"),
    local: below("local"),
    logs: below("logs"),
    statusLog: below("status.log"),
    statusSeen: join(home, "logs", "status-seen.json"),
    checkScript: below("check-status-silent.sh"),
    sshKey: below("id_ed25519"),
    sshPublicKey: below("id_ed25519.pub"),
  };
}

function socketPath(home: string): string {
  const inside = join(home, "controller.sock");
  if (Buffer.byteLength(inside) <= MAX_SOCKET_BYTES) return inside;
  const hash = createHash("sha256").update(home).digest("hex").slice(0, 24);
  return join(SOCKET_ROOT, `sprite-orchestrator-${hash}`, "controller.sock");
}

/**
 * Makes home, its folders and the socket's folder, private to the user (0700). Idempotent. Throws `invalid_config`
 * when one of them is no folder, is another user's, or may be written by others.
 */
export async function ensureHome(paths: HomePaths): Promise<void> {
  const parent = dirname(paths.home);
  await mkdir(parent, { recursive: true }).catch((error: unknown) => {
    throw refuse(parent, "cannot be made", error);
  });
  await ensurePrivate(paths.home, "follow");
  for (const folder of [paths.mirrors, paths.local, paths.logs]) {
    await ensurePrivate(folder, "follow");
  }
  const socketFolder = dirname(paths.socket);
  if (socketFolder !== paths.home) await ensurePrivate(socketFolder, "no-links");
}

async function ensurePrivate(folder: string, links: "follow" | "no-links"): Promise<void> {
  await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) {
      throw refuse(folder, "cannot be made", error);
    }
  });
  const found = await (links === "follow" ? stat(folder) : lstat(folder)).catch(
    (error: unknown) => {
      throw refuse(folder, "cannot be read", error);
    },
  );
  if (!found.isDirectory()) throw refuse(folder, "is not a folder");
  const uid = process.getuid?.();
  // Root may work in a person's home; nobody may wait in ours below the temp folder.
  if (uid !== undefined && found.uid !== uid && (uid !== 0 || links === "no-links")) {
    throw refuse(folder, "belongs to another user");
  }
  if ((found.mode & 0o022) !== 0) {
    throw refuse(folder, "may be written by other users", undefined, `chmod go-w ${folder}`);
  }
  if ((found.mode & 0o077) !== 0 && (await holdsOnlyOurs(folder))) await chmod(folder, 0o700);
}

/** A folder that also serves something else keeps its mode: what is secret in it is 0600 by itself. */
async function holdsOnlyOurs(folder: string): Promise<boolean> {
  const ours =
    /^(config\.yaml|coordination\.db|controller\.|mirrors$|local$|logs$|id_ed25519|status\.log|check-status-silent\.sh$)/;
  return (await readdir(folder)).every((entry) => ours.test(entry));
}

function refuse(folder: string, what: string, cause?: unknown, hint?: string): OrchestratorError {
  return new OrchestratorError("invalid_config", `folder ${folder} ${what}`, {
    cause,
    hint,
    details: { path: folder },
  });
}
