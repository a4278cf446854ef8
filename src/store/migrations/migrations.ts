import { first } from "./0001-first.ts";
import { limits } from "./0002-limits.ts";

/** One step of the schema. Numbers rise by one and mean the same change in every database the store may live in. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sqlite: string;
}

export const MIGRATIONS: readonly Migration[] = [first, limits];
