/** What is known of a message's way to the agent. Only `accepted` means: the agent has it. */
export type Receipt = "accepted" | "queued" | "blocked" | "typed_only" | "refused" | "unknown";

/**
 * How the text was put into the agent's hands. `exact`: byte for byte. `prefixed`: a recorded line before it, because
 * the CLI would read its first character or the bare word as a command. `file`: the agent was told to read a file that
 * holds it byte for byte, because it exceeds what one argument can carry or holds characters that the CLI would alter.
 */
export type MessageForm = "exact" | "prefixed" | "file";

/** Longest message that is taken at all (bytes of UTF-8). */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
