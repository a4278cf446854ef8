import { randomBytes } from "node:crypto";

/*
 * OpenSSH's key file format, as far as an unencrypted ed25519 key needs it: PROTOCOL.key of OpenSSH, RFC 4251
 * section 5 (strings) and RFC 8709 (ed25519 blobs). Node's crypto cannot write it.
 */

const MAGIC = Buffer.from("openssh-key-v1\0");
const ALGORITHM = "ssh-ed25519";
const CIPHER_BLOCK = 8;

/** The private key file. `publicKey` and `seed` are the 32 raw bytes each. */
export function encodePrivateKey(publicKey: Buffer, seed: Buffer, comment: string): string {
  const check = randomBytes(4);
  const secret = Buffer.concat([
    check,
    check,
    string(ALGORITHM),
    string(publicKey),
    string(Buffer.concat([seed, publicKey])),
    string(comment),
  ]);
  const padding = (CIPHER_BLOCK - (secret.length % CIPHER_BLOCK)) % CIPHER_BLOCK;
  const file = Buffer.concat([
    MAGIC,
    string("none"),
    string("none"),
    string(""),
    uint32(1),
    string(Buffer.concat([string(ALGORITHM), string(publicKey)])),
    string(Buffer.concat([secret, Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, padding))])),
  ]);
  const body = file.toString("base64").replaceAll(/.{1,70}/g, "$&\n");
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${body}-----END OPENSSH PRIVATE KEY-----\n`;
}

/** The line of a `.pub` file, without newline. */
export function encodePublicKey(blob: Buffer, comment: string): string {
  const [algorithm] = strings(blob, 0, 1) ?? [];
  return `${algorithm?.toString("latin1")} ${blob.toString("base64")} ${comment}`;
}

/** The public part of a private key file without passphrase, of any algorithm; undefined for anything else. */
export function readPublicBlob(text: string): Buffer | undefined {
  const body =
    /^-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----\s*$/.exec(
      text,
    )?.[1];
  const file = Buffer.from(body ?? "", "base64");
  if (!file.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const head = strings(file, MAGIC.length, 3);
  if (head === undefined || head[0]?.toString() !== "none") return undefined;
  const offset = MAGIC.length + head.reduce((sum, part) => sum + 4 + part.length, 0);
  const blob = strings(file, offset + 4, 1)?.[0];
  return blob !== undefined && strings(blob, 0, 1) ? blob : undefined;
}

function strings(buffer: Buffer, start: number, count: number): Buffer[] | undefined {
  const found: Buffer[] = [];
  let offset = start;
  while (found.length < count) {
    if (offset + 4 > buffer.length) return undefined;
    const end = offset + 4 + buffer.readUInt32BE(offset);
    if (end > buffer.length) return undefined;
    found.push(buffer.subarray(offset + 4, end));
    offset = end;
  }
  return found;
}

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
