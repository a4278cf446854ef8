import { generateKeyPairSync } from "node:crypto";
import { link, open, readFile, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OrchestratorError } from "../domain/errors.ts";
import type { Ids } from "../platform/ids.ts";
import { encodePrivateKey, encodePublicKey, readPublicBlob } from "./openssh-key.ts";
import type { HomePaths } from "./paths.ts";
import { syncFolder, writeFileAtomically } from "./write-file.ts";

const COMMENT = "sprite-orchestrator";

export interface KeyFiles {
  readonly privateKey: string;
  /** The line for `authorized_keys`. */
  readonly publicLine: string;
  readonly created: boolean;
}

/**
 * Makes the controller's ed25519 key pair (OpenSSH format, no passphrase, 0600) when there is none. Home must exist.
 * Of processes that race, all return the pair of the one that was first. An existing key is never replaced: one that
 * others may read, or that is no unencrypted OpenSSH key, is `invalid_config`.
 */
export async function ensureKeys(
  paths: Pick<HomePaths, "sshKey" | "sshPublicKey">,
  ids: Ids,
): Promise<KeyFiles> {
  const created = await createKey(paths.sshKey, ids);
  const publicLine = await readPublicLine(paths.sshKey);
  const known = await readFile(paths.sshPublicKey, "utf8").catch(() => "");
  if (known.trim() !== publicLine) {
    await writeFileAtomically(paths.sshPublicKey, `${publicLine}\n`, ids.token());
  }
  return { privateKey: paths.sshKey, publicLine, created };
}

/** The link publishes the key whole and for one process only. */
async function createKey(path: string, ids: Ids): Promise<boolean> {
  if (await exists(path)) return false;
  const temporary = join(dirname(path), `.${ids.token()}.tmp`);
  try {
    await using file = await open(temporary, "wx", 0o600);
    await file.writeFile(newPrivateKey());
    await file.sync();
    await link(temporary, path);
  } catch (error) {
    if (await exists(path)) return false;
    throw new OrchestratorError("internal", `key ${path} could not be written`, { cause: error });
  } finally {
    await unlink(temporary).catch(() => {});
  }
  await syncFolder(dirname(path));
  return true;
}

function newPrivateKey(): string {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { x = "", d = "" } = privateKey.export({ format: "jwk" });
  return encodePrivateKey(Buffer.from(x, "base64url"), Buffer.from(d, "base64url"), COMMENT);
}

async function readPublicLine(path: string): Promise<string> {
  const found = await stat(path);
  if ((found.mode & 0o077) !== 0) {
    throw new OrchestratorError("invalid_config", `key ${path} may be read by other users`, {
      hint: `chmod 600 ${path}, or make a new key if it may have been read`,
      details: { path },
    });
  }
  const blob = readPublicBlob(await readFile(path, "utf8"));
  if (blob === undefined) {
    throw new OrchestratorError(
      "invalid_config",
      `key ${path} is not an OpenSSH private key without passphrase`,
      { hint: "move it away, and a new one is made", details: { path } },
    );
  }
  return encodePublicKey(blob, COMMENT);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
