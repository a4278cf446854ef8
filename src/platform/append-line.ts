import { constants } from "node:fs";
import { open } from "node:fs/promises";

/**
 * Appends one line with one write to a file that is opened for it: whoever moves the file away meanwhile (log rotation) loses nothing,
 * and lines of several processes never mix. Rejects when not all of it could be written. Never waits for a reader of a named pipe.
 */
export async function appendLine(path: string, line: string, mode: number): Promise<void> {
  const { O_APPEND, O_CREAT, O_WRONLY, O_NONBLOCK } = constants;
  const file = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, mode);
  try {
    const bytes = Buffer.from(`${line}\n`);
    const { bytesWritten } = await file.write(bytes);
    if (bytesWritten !== bytes.length) throw new Error(`only a part of a line fitted into ${path}`);
  } finally {
    await file.close();
  }
}
