import { inspect } from "node:util";

const REDACTED = "[redacted]";

/** A secret that shows itself only to `reveal`: text, JSON, templates and inspection print `[redacted]`. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The secret itself. For stdin and files of mode 0600 only; never for argv, URLs, logs or errors. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.toPrimitive](): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}
