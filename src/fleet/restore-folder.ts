import { lstat, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";

/**
 * Makes the folder for a nested repository below `root`, or finds it empty; null when the path leads anywhere else. The path is a worker's
 * word: no way up, no `.git`, no symbolic link on the way.
 */
export async function restoreFolder(root: string, path: string): Promise<string | null> {
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === ".." || isGitName(part)))
    return null;
  let folder = root;
  for (const part of parts) {
    folder = join(folder, part);
    const found = await lstat(folder).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
      throw error;
    });
    if (found === null) await mkdir(folder);
    else if (!found.isDirectory()) return null;
  }
  return (await readdir(folder)).length === 0 ? folder : null;
}

/** `.git` as some file systems know it, too. */
const isGitName = (part: string): boolean => /^(\.git|git~\d+)[ .]*$/i.test(part.normalize("NFKC"));
