import { open, readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

import { isName } from "../../domain/names.ts";
import { ProviderError } from "../provider-error.ts";
import { type Labels, formatLabels, parseLabels } from "./labels.ts";

/** Where things lie in one worker's folder. */
export interface Folder {
  readonly path: string;
  /** The worker's `$HOME`. */
  readonly home: string;
  readonly labels: string;
  readonly hostKey: string;
  readonly authorizedKeys: string;
  readonly sshdConfig: string;
  /** Written by sshd when it listens, removed when it ends. */
  readonly sshdPid: string;
  /** Who started as sshd: see sshd.ts. */
  readonly sshdRecord: string;
  readonly sshdLog: string;
  readonly tmux: string;
}

export function folderAt(path: string): Folder {
  return {
    path,
    home: join(path, "home"),
    labels: join(path, "worker.json"),
    hostKey: join(path, "host_key"),
    authorizedKeys: join(path, "authorized_keys"),
    sshdConfig: join(path, "sshd_config"),
    sshdPid: join(path, "sshd.pid"),
    sshdRecord: join(path, "sshd.record"),
    sshdLog: join(path, "sshd.log"),
    tmux: join(path, "t"),
  };
}

/** A unix socket's path has room for 107 bytes; tmux appends `/tmux-<uid>/default`, here counted with a long uid. */
const MAX_TMUX_DIR_BYTES = 107 - "/tmux-4294967295/default".length;

export const fitsTmuxSocket = (dir: string): boolean =>
  Buffer.byteLength(dir) <= MAX_TMUX_DIR_BYTES;

export const tmuxDir = (folder: Folder, labels: Labels): string =>
  labels.outsideTmuxDir ?? folder.tmux;

/** Being built, by the owner of the lock of the same name. Never a worker: names do not begin with a dot. */
export const BUILDING = ".building-";
/** Condemned: what is left of a worker whose removal began. */
export const REMOVING = ".removing-";

/** A folder with a worker's name. `labels` is undefined when they cannot be read: then nobody knows whose it is. */
export interface Entry {
  readonly name: string;
  readonly folder: Folder;
  readonly labels: Labels | undefined;
}

export async function listEntries(root: string): Promise<Entry[]> {
  const names = (await namesIn(root)).filter(isName);
  const entries = await Promise.all(names.map((name) => readEntry(root, name)));
  return entries.filter((entry) => entry !== undefined);
}

/** Undefined on positive evidence that there is no folder of that name. */
export async function readEntry(root: string, name: string): Promise<Entry | undefined> {
  const folder = folderAt(join(root, name));
  try {
    const labels = await readLabels(folder);
    return { name, folder, labels: labels.name === name ? labels : undefined };
  } catch {
    // A worker that was just destroyed also fails here, but its name is gone.
    const there = (await namesIn(root)).includes(name);
    return there ? { name, folder, labels: undefined } : undefined;
  }
}

export const readLabels = async (folder: Folder): Promise<Labels> =>
  parseLabels(await readFile(folder.labels, "utf8"));

/** Reaches the disk before it returns. */
export async function writeLabels(folder: Folder, labels: Labels): Promise<void> {
  const file = await open(folder.labels, "wx", 0o600);
  try {
    await file.writeFile(formatLabels(labels));
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Names in `root`; none when it does not exist yet. Anything else that fails is `unavailable`, never "empty". */
export async function namesIn(root: string): Promise<string[]> {
  try {
    return await readdir(root);
  } catch (cause) {
    if (isMissing(cause)) return [];
    throw new ProviderError("unavailable", `the folder of local workers ${root} cannot be read`, {
      cause,
    });
  }
}

export const errorCode = (error: unknown): unknown =>
  typeof error === "object" && error !== null ? Reflect.get(error, "code") : undefined;

export const isMissing = (error: unknown): boolean => errorCode(error) === "ENOENT";
