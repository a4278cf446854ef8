import { lstat, open, readlink, rename, stat, unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";

/**
 * Replaces `path` by `text` so that a reader, or a crash at any moment, finds the old text or the new one, whole. Keeps
 * the mode of an existing file, else 0600. `token` makes the temporary name unique.
 */
export async function writeFileAtomically(
  path: string,
  text: string,
  token: string,
): Promise<void> {
  const mode = await stat(path).then(
    (found) => found.mode & 0o777,
    () => 0o600,
  );
  const folder = dirname(path);
  const temporary = join(folder, `.${token}.tmp`);
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw new OrchestratorError("internal", `${path} could not be written`, { cause: error });
  }
  await syncFolder(folder);
}

/** Makes a rename or link in `folder` survive a power cut, where the system can. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder).catch(() => undefined);
  try {
    await handle?.sync();
  } catch {
    // Some file systems refuse to sync a folder; the rename stands all the same.
  } finally {
    await handle?.close();
  }
}

/** The file behind symbolic links, so that replacing it keeps the link. Throws `invalid_config` on an endless chain. */
export async function followLinks(path: string): Promise<string> {
  let current = path;
  for (let hops = 0; hops < 20; hops += 1) {
    const found = await lstat(current).catch(() => undefined);
    if (!found?.isSymbolicLink()) return current;
    current = resolve(dirname(current), await readlink(current));
  }
  throw new OrchestratorError("invalid_config", `${path} is an endless chain of links`);
}
