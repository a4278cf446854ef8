import { z } from "zod";

/**
 * What makes a folder a worker; written before the folder can be seen. Programs of the worker can reach this file, so
 * what becomes a path later has one form only.
 */
const Labels = z.object({
  id: z.string().regex(/^local-[0-9a-z]+$/),
  name: z.string().min(1),
  fleetId: z.string().min(1),
  nonce: z.string().min(1),
  createdAt: z.number(),
  /** Fingerprint of the worker's own host key. */
  hostKey: z.string().startsWith("SHA256:"),
  /** Private folder for the tmux socket when the worker's own path is too long for one; null: inside the folder. */
  outsideTmuxDir: z
    .string()
    .regex(/^\/tmp\/orchestrator-[0-9a-z]+$/)
    .nullable(),
});

export type Labels = Readonly<z.infer<typeof Labels>>;

/** Throws when the text is no labels file. */
export const parseLabels = (text: string): Labels => Labels.parse(JSON.parse(text));

export const formatLabels = (labels: Labels): string => `${JSON.stringify(labels, null, 2)}\n`;
