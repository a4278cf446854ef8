/** Where a command prints and reads. Text for people goes through clean.ts before it gets here. */
export interface Io {
  /** Standard output, as it is. */
  write(text: string): void;
  /** Standard error, as it is. */
  writeError(text: string): void;
  readonly isTerminal: boolean;
  readonly isErrorTerminal: boolean;
  readonly columns: number;
  readonly hasColours: boolean;
  readonly stdin: StandardInput;
}

export interface StandardInput {
  /** `data`: a pipe, socket or file; `nothing`: closed or a device such as /dev/null. */
  readonly kind: "terminal" | "data" | "nothing";
  /** All of it; undefined when it is longer than `maxBytes`. */
  read(maxBytes: number): Promise<Buffer | undefined>;
  /** One line without its newline, after a prompt; undefined at the end. */
  ask(prompt: string): Promise<string | undefined>;
}

export const printLine = (io: Io, line = ""): void => io.write(`${line}\n`);

export const printJson = (io: Io, value: unknown): void => io.write(`${JSON.stringify(value)}\n`);
