import type { z } from "zod";
import type { ErrorCode } from "../domain/errors.ts";
import type { Services } from "./services.ts";

/*
 * One definition, every door. An operation is declared once, here; CLI, HTTP, MCP and docs are made from it.
 *
 * - `input` is parsed at the door that takes the call; the handler trusts it.
 * - `output` describes what every door shows (snake_case, stable, documented); a stream yields it item by item.
 * - `runs: "anywhere"` needs the store alone and works in any process; `"controller"` touches workers or owns loops.
 * - `access: "mutate"` operations take `request_id` in their input when repeating them could act twice.
 * - `errors` lists the codes a caller must expect beside `internal` and `invalid_input`.
 */
export interface Operation<In extends z.ZodType = z.ZodType, Out extends z.ZodType = z.ZodType> {
  readonly id: string;
  readonly summary: string;
  readonly runs: "anywhere" | "controller";
  readonly access: "read" | "mutate";
  readonly input: In;
  readonly output: Out;
  readonly errors: readonly ErrorCode[];
  /** The command line that reaches it, without the program's name; null: not on the command line. */
  readonly cli: string | null;
  readonly answer: Answer<In, Out>;
}

export type Answer<In extends z.ZodType, Out extends z.ZodType> =
  | {
      readonly kind: "once";
      handle(services: Services, input: z.output<In>, signal: AbortSignal): Promise<z.input<Out>>;
    }
  | {
      readonly kind: "stream";
      handle(
        services: Services,
        input: z.output<In>,
        signal: AbortSignal,
      ): AsyncIterable<z.input<Out>>;
    };

/** Keeps the types of input and output while declaring an operation. */
export function operation<In extends z.ZodType, Out extends z.ZodType>(
  definition: Operation<In, Out>,
): Operation<In, Out> {
  return definition;
}
