import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { CreateRequest } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import { BUILDING, type Entry, type Folder, errorCode, fitsTmuxSocket } from "./folder.ts";
import { folderAt, readEntry, writeLabels } from "./folder.ts";
import type { Labels } from "./labels.ts";
import { tryLock } from "./lock.ts";

const run = promisify(execFile);

/**
 * Builds the worker in a folder that is no worker yet and renames it: the name then exists with its labels, or not at
 * all. Of several that race for a name one wins; the others get the winner's entry when it is theirs, else `name_taken`.
 */
export async function createFolder(
  root: string,
  request: CreateRequest,
  { clock, ids }: { clock: Clock; ids: Ids },
): Promise<Labels> {
  const existing = await readEntry(root, request.name);
  if (existing !== undefined) return ownOrTaken(existing, request);

  const building = `${BUILDING}${ids.token()}`;
  await using held = await tryLock(root, building);
  if (held === undefined) throw new ProviderError("unavailable", "a fresh lock is already held");
  const folder = folderAt(join(root, building));
  try {
    const labels = await build(folder, request, { clock, ids }, folderAt(join(root, request.name)));
    if (await publish(folder.path, join(root, request.name))) {
      await syncFolder(root);
      return labels;
    }
    if (labels.outsideTmuxDir !== null) await rm(labels.outsideTmuxDir, { recursive: true });
  } catch (error) {
    await rm(folder.path, { recursive: true, force: true });
    throw error;
  }
  await rm(folder.path, { recursive: true, force: true });
  const winner = await readEntry(root, request.name);
  if (winner === undefined) {
    throw new ProviderError("unavailable", `the name ${request.name} was taken and freed again`);
  }
  return ownOrTaken(winner, request);
}

function ownOrTaken({ labels }: Entry, request: CreateRequest): Labels {
  if (labels?.nonce === request.nonce && labels.fleetId === request.fleetId) return labels;
  throw new ProviderError("name_taken", `a local worker named ${request.name} exists already`);
}

async function build(
  folder: Folder,
  request: CreateRequest,
  { clock, ids }: { clock: Clock; ids: Ids },
  final: Folder,
): Promise<Labels> {
  await mkdir(folder.path, { mode: 0o700 });
  await mkdir(folder.home, { mode: 0o700 });
  await mkdir(folder.tmux, { mode: 0o700 });
  await writeFile(folder.authorizedKeys, `${request.authorizedKey.trim()}\n`, { mode: 0o600 });
  const labels: Labels = {
    id: ids.next("local"),
    name: request.name,
    fleetId: request.fleetId,
    nonce: request.nonce,
    createdAt: clock.now(),
    hostKey: await makeHostKey(folder.hostKey),
    outsideTmuxDir: fitsTmuxSocket(final.tmux) ? null : join("/tmp", ids.next("orchestrator")),
  };
  await writeLabels(folder, labels);
  if (labels.outsideTmuxDir !== null) await mkdir(labels.outsideTmuxDir, { mode: 0o700 });
  await syncFolder(folder.path);
  return labels;
}

/** Returns the fingerprint. ssh-keygen, because older sshd read no other private key format for ed25519. */
async function makeHostKey(path: string): Promise<string> {
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]);
  const blob = (await readFile(`${path}.pub`, "utf8")).split(" ")[1] ?? "";
  const digest = createHash("sha256").update(Buffer.from(blob, "base64")).digest("base64");
  return `SHA256:${digest.replace(/=+$/, "")}`;
}

/** Renaming a folder onto one that is not empty fails, and a worker's never is. */
async function publish(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOTEMPTY" || code === "EEXIST" || code === "ENOTDIR") return false;
    throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
