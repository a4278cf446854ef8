import { createHash } from "node:crypto";

/** `SHA256:...` of a public key blob, as OpenSSH prints it. */
export function fingerprint(blob: Uint8Array): string {
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}

/** Which host key a worker may show. Without a pin, `learn` decides once; what it accepted is the pin from then on. */
export class HostKeyPin {
  #pinned: string | null;
  readonly #learn: ((fingerprint: string) => boolean) | undefined;

  constructor(pinned: string | null, learn: ((fingerprint: string) => boolean) | undefined) {
    this.#pinned = pinned;
    this.#learn = learn;
  }

  accepts(blob: Uint8Array): boolean {
    const seen = fingerprint(blob);
    if (this.#pinned === null && this.#learn?.(seen) === true) this.#pinned = seen;
    return this.#pinned === seen;
  }
}
