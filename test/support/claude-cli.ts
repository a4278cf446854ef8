import { execFile } from "node:child_process";
import { access, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { TESTED_VERSION } from "../../src/runtimes/claude/vendor-data.ts";

const run = promisify(execFile);
const PACKAGE = "@anthropic-ai/claude-code";
const cacheFolder = join(import.meta.dirname, "..", "..", ".cache");

export type ClaudeCli =
  | { readonly kind: "found"; readonly path: string; readonly version: string }
  | { readonly kind: "missing"; readonly reason: string };

/**
 * The pinned real CLI, fetched once into `.cache/` with `npm install --prefix`. Safe when several call it at once: each installs
 * into a folder of its own and renames it into place, and who comes second uses the first's. When it cannot be had: why.
 */
export async function claudeCli(): Promise<ClaudeCli> {
  const folder = join(cacheFolder, `claude-code-${TESTED_VERSION}`);
  const path = join(folder, "node_modules", ".bin", "claude");
  try {
    if (!(await exists(path))) await install(folder);
    const { stdout } = await run(path, ["--version"], { env: {}, timeout: 30_000 });
    if (!stdout.startsWith(TESTED_VERSION))
      return { kind: "missing", reason: `the cached CLI says it is ${stdout.trim()}` };
    return { kind: "found", path, version: TESTED_VERSION };
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    return { kind: "missing", reason: `${PACKAGE}@${TESTED_VERSION} cannot be had: ${reason}` };
  }
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

async function install(folder: string): Promise<void> {
  await mkdir(cacheFolder, { recursive: true });
  const own = await mkdtemp(`${folder}.tmp-`);
  try {
    const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    const args = ["install", "--prefix", own, ...quiet, `${PACKAGE}@${TESTED_VERSION}`];
    await run("npm", args, { timeout: 240_000 });
    // Fails when another has put it there meanwhile: theirs is as good.
    await rename(own, folder).catch(async (error: unknown) => {
      if (!(await exists(folder))) throw error;
    });
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

/** No credential: what the CLI is given as its key in tests. Its last 20 characters go into the seed. */
export const DUMMY_KEY = "dummy-key-of-the-tests-0123456789abcdef";
export const DUMMY_KEY_LAST20 = DUMMY_KEY.slice(-20);

/**
 * The whole environment of a real CLI in tests: nothing inherited but the way to programs, a home that the test made, a dummy key, a
 * base URL on loopback, and no traffic to anywhere else.
 */
export function cleanEnv(home: string, baseUrl: string): Record<string, string> {
  if (!/^http:\/\/127\.0\.0\.1:\d+$/.test(baseUrl))
    throw new Error("the base URL must be loopback");
  return {
    HOME: home,
    PATH: [dirname(process.execPath), "/usr/local/bin", "/usr/bin", "/bin"].join(delimiter),
    LANG: "C.UTF-8",
    TERM: "xterm-256color",
    TMPDIR: join(home, "tmp"),
    ANTHROPIC_API_KEY: DUMMY_KEY,
    ANTHROPIC_BASE_URL: baseUrl,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL: "1",
    CLAUDE_CODE_MAX_RETRIES: "1",
    DISABLE_AUTOUPDATER: "1",
    DISABLE_ERROR_REPORTING: "1",
    DISABLE_TELEMETRY: "1",
  };
}
