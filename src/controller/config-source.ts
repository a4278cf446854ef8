import { stat } from "node:fs/promises";
import type { Config } from "../config/config.ts";
import type { Env } from "../config/env.ts";
import { loadConfig } from "../config/load.ts";

/** The configuration as the file says now; read again when the file changed. */
export class ConfigSource {
  readonly #path: string;
  readonly #env: Env;
  #mark = "";
  #current: Config;

  private constructor(path: string, env: Env, current: Config, mark: string) {
    this.#path = path;
    this.#env = env;
    this.#current = current;
    this.#mark = mark;
  }

  static async open(path: string, env: Env): Promise<ConfigSource> {
    const mark = await markOf(path);
    return new ConfigSource(path, env, await loadConfig(path, env), mark);
  }

  get current(): Config {
    return this.#current;
  }

  /** Rejects with `invalid_config` when the changed file is broken; the last good configuration stays in force for runs under way. */
  async refresh(): Promise<Config> {
    const mark = await markOf(this.#path);
    if (mark !== this.#mark) {
      this.#current = await loadConfig(this.#path, this.#env);
      this.#mark = mark;
    }
    return this.#current;
  }
}

async function markOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? "absent" : `${found.ino}:${found.size}:${found.mtimeNs}`;
}
