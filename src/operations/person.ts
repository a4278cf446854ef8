import { z } from "zod";
import { runIdInput } from "./inputs.ts";
import { operation } from "./operation.ts";
import { orchestrationOf } from "./require.ts";
import { runView } from "./views.ts";

/* What a person does to an agent's window through a door, instead of in it. */

const by = z
  .string()
  .min(1)
  .max(100)
  .default("operator")
  .describe("who decided; recorded with the keys that were pressed");

const option = z.object({
  number: z.number(),
  label: z.string(),
  role: z.enum(["allow", "deny", "other"]),
});

const answerView = z.object({
  run: runView,
  question: z.object({
    id: z.string().describe("stays while this question is open"),
    kind: z.string(),
    text: z.array(z.string()),
    options: z.array(option),
  }),
  chosen: option.nullable().describe("null: nothing was answered"),
  keys: z.array(z.string()),
  evidence: z.string().nullable().describe("what the agent showed afterwards"),
});

const interruptView = z.object({
  run: runView,
  keys: z.array(z.string()),
  evidence: z.string(),
});

export type AnswerView = z.output<typeof answerView>;
export type InterruptView = z.output<typeof interruptView>;

export const answerQuestion = operation({
  id: "run.answer",
  summary: "Answer the question of a run's agent; without a choice: say what is asked",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({
    run_id: runIdInput,
    choice: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe("allow, deny, or an option by its number or text"),
    because: z.string().max(160).optional().describe("what a denial tells the agent"),
    question: z.string().max(40).optional().describe("only if this question is the one open"),
    by,
  }),
  output: answerView,
  errors: ["not_found", "not_claimable", "needs_person", "delivery_unconfirmed", "unreachable"],
  cli: "answer",
  answer: {
    kind: "once",
    handle: (services, { run_id: runId, choice, because, question, by }) =>
      orchestrationOf(services).answer(runId, { choice, because, question, by }),
  },
});

export const interruptTurn = operation({
  id: "run.interrupt",
  summary: "Stop the turn of a run's agent, or of the agent of a worker's last run",
  runs: "controller",
  access: "mutate",
  input: z.strictObject({
    target: z.string().max(60).describe("a run's id or a worker's name"),
    by,
  }),
  output: interruptView,
  errors: ["not_found", "not_claimable", "needs_person", "delivery_unconfirmed", "unreachable"],
  cli: "interrupt",
  answer: {
    kind: "once",
    handle: (services, input) => orchestrationOf(services).interrupt(input.target, input.by),
  },
});
