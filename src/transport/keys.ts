import ssh2 from "ssh2";

export interface ClientKeys {
  /** OpenSSH private key file text, without passphrase. */
  readonly privateKey: string;
  /** One line as in `authorized_keys`. */
  readonly publicKey: string;
}

/** A new ed25519 key pair for the controller to log in with. */
export function generateClientKeys(comment: string): ClientKeys {
  const pair = ssh2.utils.generateKeyPairSync("ed25519", { comment });
  return { privateKey: pair.private, publicKey: pair.public };
}
