import type { Evidence } from "./evidence.ts";

/**
 * Whether the agent's own hook showed exactly this text (SHA-256 and length of `EncodedMessage.sent`, see `hashText`) in
 * this launch. A prefix, a wrapped paste or the same text seen by an earlier launch is no proof.
 */
export function isDelivered(
  evidence: Evidence,
  message: { readonly hash: string; readonly bytes: number; readonly launch: number },
): boolean {
  return evidence.prompts.some(
    (seen) =>
      seen.hash === message.hash && seen.bytes === message.bytes && seen.launch === message.launch,
  );
}
