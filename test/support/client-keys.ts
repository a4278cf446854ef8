import { generateKeyPairSync } from "node:crypto";

import { encodePrivateKey, encodePublicKey, readPublicBlob } from "../../src/config/openssh-key.ts";

export interface ClientKeys {
  /** OpenSSH private key file text, without passphrase. */
  readonly privateKey: string;
  /** One line as in `authorized_keys`. */
  readonly publicKey: string;
}

/** A new ed25519 pair. Not ssh2's own generator: one in 256 of its keys is malformed (mscdex/ssh2 issue 1390). */
export function generateClientKeys(comment: string): ClientKeys {
  const { x = "", d = "" } = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
  const privateKey = encodePrivateKey(
    Buffer.from(x, "base64url"),
    Buffer.from(d, "base64url"),
    comment,
  );
  const blob = readPublicBlob(privateKey);
  if (blob === undefined) throw new Error("the key cannot be read back");
  return { privateKey, publicKey: encodePublicKey(blob, comment) };
}
