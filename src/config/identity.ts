import { readFile, stat } from "node:fs/promises";
import { OrchestratorError } from "../domain/errors.ts";

/**
 * Reads an SSH private key of the operator: PEM or OpenSSH format, without passphrase, readable by its owner only. Anything else is one
 * `invalid_config` that names the file; undefined when there is no such file.
 */
export async function readIdentity(path: string): Promise<string | undefined> {
  let text: string;
  try {
    const found = await stat(path);
    if ((found.mode & 0o077) !== 0) {
      throw refuse(path, "may be read by other users", `chmod 600 ${path}`);
    }
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof OrchestratorError) throw error;
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw refuse(path, "cannot be read", undefined, error);
  }
  if (isEncrypted(text)) {
    throw refuse(
      path,
      "has a passphrase, which nobody is there to type",
      "name a key without passphrase for the orchestrator as identityFile; the agent of OpenSSH is not used",
    );
  }
  return text;
}

/** OpenSSH's format says its cipher behind the magic; the older ones say it in words. */
function isEncrypted(text: string): boolean {
  if (/^(Proc-Type: 4,ENCRYPTED|-----BEGIN ENCRYPTED PRIVATE KEY-----)/m.test(text)) return true;
  const body = /^-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END/m.exec(text)?.[1];
  if (body === undefined) return false;
  const file = Buffer.from(body, "base64");
  const magic = "openssh-key-v1\0";
  if (file.length < magic.length + 4) return false;
  const length = file.readUInt32BE(magic.length);
  const cipher = file.subarray(magic.length + 4, magic.length + 4 + length).toString("latin1");
  return file.toString("latin1", 0, magic.length) === magic && cipher !== "none";
}

function refuse(path: string, what: string, hint?: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError("invalid_config", `key ${path} ${what}`, {
    hint,
    cause,
    details: { path },
  });
}
