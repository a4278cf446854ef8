import { createHash } from "node:crypto";

/** 2,000 bytes, different each time, that need no escape in JSON or a shell. */
export function makePrompt(label: string): { readonly text: string; readonly hash: string } {
  const text = `${label} ${"please look at this ".repeat(100)}`.slice(0, 1_999).concat(".");
  return { text, hash: createHash("sha256").update(text).digest("hex") };
}

/** Boot of every fake agent, seconds: a warm interpreter's. Real agents take a hundred times as long. */
export const BOOT_S = 0.015;
