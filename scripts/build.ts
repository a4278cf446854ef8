import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build, type Plugin } from "esbuild";
import { asFunction, LAUNCHER, makeCodeCache } from "./code-cache.ts";

/*
 * dist/orchestrator.cjs   the program: runs fast.js, with its compiled form fast.cache if that fits this Node
 * dist/fast.js            what every start needs; no library in it
 * dist/lib/*.mjs          what only some starts need: help, commands that change something, controller, store
 *
 * Both lie as deep below the package as their sources (src/main.ts, src/<room>/), so that what is found relative to a
 * module, such as provision/, is found from either.
 */

const root = join(import.meta.dirname, "..");

/** Modules that the fast file loads only when a command asks for them. */
const LATER: Readonly<Record<string, string>> = {
  controller: "src/controller/controller.ts",
  "in-process": "src/operations/in-process.ts",
  "config-files": "src/cli/config-files.ts",
  help: "src/cli/help.ts",
  send: "src/cli/send.ts",
  trials: "src/controller/trials.ts",
  doctor: "src/cli/doctor.ts",
  "doctor-checks": "src/cli/doctor-checks.ts",
  person: "src/cli/person.ts",
  "run-follow": "src/cli/run-follow.ts",
  completion: "src/cli/completion.ts",
  watch: "src/cli/watch.ts",
  init: "src/cli/init.ts",
  repo: "src/cli/repo.ts",
  config: "src/cli/config.ts",
  attach: "src/cli/attach.ts",
  "worker-use": "src/cli/worker-use.ts",
  check: "src/cli/check.ts",
  cron: "src/cli/cron.ts",
  "start-controller": "src/cli/start-controller.ts",
  "run-detail": "src/cli/run-detail.ts",
  spinner: "src/cli/spinner.ts",
};

/** Node's modules that cost milliseconds to load and that few commands use, with the functions that are used. */
const SLOW_BUILTINS: Readonly<Record<string, readonly string[]>> = {
  "node:crypto": ["createHash", "randomBytes", "randomUUID"],
  "node:child_process": ["spawn"],
  "node:fs/promises": ["chmod", "lstat", "mkdir", "readdir", "stat"],
};

/** Leaves `import("...")` of a later module in the code, pointing at its own bundle. */
const later: Plugin = {
  name: "later",
  setup(builder) {
    builder.onResolve({ filter: /^\..*\.ts$/ }, ({ path, kind, resolveDir }) => {
      if (kind !== "dynamic-import") return undefined;
      const target = join(resolveDir, path);
      const name = Object.keys(LATER).find((key) => join(root, LATER[key] ?? "") === target);
      return name === undefined ? undefined : { path: `./lib/${name}.mjs`, external: true };
    });
  },
};

/** Loads a slow module of Node's at the first call of one of its functions. */
const slowBuiltins: Plugin = {
  name: "slow-builtins",
  setup(builder) {
    builder.onResolve({ filter: /^node:(crypto|child_process|fs\/promises)$/ }, ({ path, kind }) =>
      kind === "import-statement" ? { path, namespace: "slow" } : undefined,
    );
    builder.onLoad({ filter: /.*/, namespace: "slow" }, ({ path }) => {
      const functions = SLOW_BUILTINS[path] ?? [];
      const load = `require(${JSON.stringify(path)})`;
      const named = functions.map(
        (name) => `export const ${name} = (...all) => ${load}.${name}(...all);`,
      );
      return { contents: named.join("\n"), loader: "js" };
    });
  },
};

const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
  version: string;
};

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  target: "node24",
  minifyWhitespace: true,
  minifySyntax: true,
  minifyIdentifiers: true,
  legalComments: "none",
  logLevel: "warning",
  define: { ORCHESTRATOR_VERSION: JSON.stringify(version) },
} as const;

await rm(join(root, "dist"), { recursive: true, force: true });

const fast = await build({
  ...common,
  entryPoints: { fast: "src/main.ts" },
  outdir: "dist",
  format: "cjs",
  // import() becomes require(): code that was compiled beforehand has no loader of its own.
  supported: { "dynamic-import": false },
  write: false,
  define: { ...common.define, "import.meta.dirname": "__dirname" },
  plugins: [later, slowBuiltins],
  metafile: true,
});

await build({
  ...common,
  entryPoints: LATER,
  outdir: "dist/lib",
  outExtension: { ".js": ".mjs" },
  chunkNames: "shared-[hash]",
  format: "esm",
  splitting: true,
  // ssh2 works without its native parts; it asks for them and takes no for an answer.
  external: ["cpu-features", "*.node"],
  // What CommonJS libraries expect to find.
  banner: {
    js: [
      'import { createRequire as __createRequire } from "node:module";',
      "const require = __createRequire(import.meta.url);",
      "const __filename = import.meta.filename;",
      "const __dirname = import.meta.dirname;",
    ].join("\n"),
  },
});

const libraries = new Set(
  Object.keys(fast.metafile.inputs).flatMap(
    (path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [],
  ),
);
if (libraries.size > 0) {
  throw new Error(`the fast file must not hold ${[...libraries].join(", ")}: load it later`);
}

const dist = join(root, "dist");
await writeFile(join(dist, "fast.js"), asFunction(fast.outputFiles[0]?.text ?? ""));
await writeFile(join(dist, "orchestrator.cjs"), LAUNCHER, { mode: 0o755 });
await makeCodeCache(dist);
