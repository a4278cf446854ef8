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
  /** The terminal as a whole page, where a person sits at one; absent elsewhere. */
  screen?(): TerminalScreen | undefined;
}

export interface TerminalScreen {
  size(): { readonly rows: number; readonly columns: number };
  write(text: string): void;
  /** Both return what undoes them. Keys come one by one, Ctrl-C among them, and are not echoed. */
  onResize(changed: () => void): () => void;
  onKey(pressed: (key: string) => void): () => void;
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

/** What JSON leaves as it is and a terminal may act on: control characters above ASCII, zero-width and direction marks. */
const UNSEEN = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** One line of JSON; what cannot be seen is escaped, which changes no value. */
export function printJson(io: Io, value: unknown): void {
  const text = JSON.stringify(value).replaceAll(
    UNSEEN,
    (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  io.write(`${text}\n`);
}
