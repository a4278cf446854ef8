/** Kysely's raw SQL tag, for rooms that need an expression the builder lacks; only this room names the library. */
export { sql } from "kysely";
