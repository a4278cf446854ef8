import { quoteArgument } from "../transport/quote.ts";

/** What the launcher sources as `exec-<n>` (provision/README.md, "start"). */
export interface ExecScript {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly argv: readonly string[];
  /** Name of the credential file below `auth/`. */
  readonly auth: string;
  /** File below the run's folder whose exact bytes become the last argument. */
  readonly message: { readonly file: string; readonly bytes: number } | null;
}

/** sh text with every value quoted; holds no secret. */
export function execScript(input: ExecScript): string {
  const exports = Object.entries(input.env).map(
    ([name, value]) => `export ${name}=${quoteArgument(value)}`,
  );
  return [
    `cwd=${quoteArgument(input.cwd)}`,
    `auth=${quoteArgument(input.auth)}`,
    ...(input.message === null
      ? []
      : [`message=${quoteArgument(input.message.file)}`, `bytes=${input.message.bytes}`]),
    ...exports,
    `set -- ${input.argv.map(quoteArgument).join(" ")}`,
    "",
  ].join("\n");
}
