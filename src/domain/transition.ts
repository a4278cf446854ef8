import { OrchestratorError } from "./errors.ts";

export type Table<State extends string, Event extends string> = Readonly<
  Record<State, Readonly<Partial<Record<Event, State>>>>
>;

/** The next state, or `internal` when the table has no such transition: a bug here, never bad input. */
export function next<State extends string, Event extends string>(
  machine: string,
  table: Table<State, Event>,
  from: State,
  event: Event,
): State {
  const to = table[from][event];
  if (to === undefined) {
    throw new OrchestratorError("internal", `${machine} cannot take '${event}' in state '${from}'`);
  }
  return to;
}

/** Whether the table has this transition. */
export function can<State extends string, Event extends string>(
  table: Table<State, Event>,
  from: State,
  event: Event,
): boolean {
  return table[from][event] !== undefined;
}
