declare const brand: unique symbol;
type Id<Name extends string> = string & { readonly [brand]: Name };

export type WorkerId = Id<"worker">;
export type RunId = Id<"run">;
export type TaskId = Id<"task">;

/** Brands a value that was made by `Ids` or read from the store; it checks nothing. */
export const asWorkerId = (value: string) => value as WorkerId;
export const asRunId = (value: string) => value as RunId;
export const asTaskId = (value: string) => value as TaskId;
