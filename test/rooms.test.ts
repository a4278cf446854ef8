import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";

/** Floors of DESIGN 3: a room imports only rooms on lower floors. Doors of one floor never import each other. */
const FLOORS: Readonly<Record<string, number>> = {
  platform: 0,
  domain: 0,
  config: 1,
  store: 1,
  transport: 1,
  providers: 2,
  tmux: 2,
  provisioner: 3,
  runtimes: 3,
  fleet: 4,
  dispatch: 5,
  operations: 6,
  controller: 8,
  cli: 9,
  "main.ts": 10,
};

/** One room a library; `p-queue`, `zod` and `execa` may be used in any. */
const LIBRARY_ROOMS: Readonly<Record<string, readonly string[]>> = {
  ssh2: ["transport"],
  kysely: ["store"],
  "node:sqlite": ["store"],
  commander: ["cli"],
  ora: ["cli"],
  yaml: ["config"],
  "ssh-config": ["config"],
  undici: ["platform"],
};

/** Implementations may be named by the composition root only. */
const IMPLEMENTATION = /^(providers|runtimes)\/([a-z-]+)\//;

const root = join(import.meta.dirname, "..", "src");

interface Import {
  readonly file: string;
  readonly target: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  const pattern =
    /(?:^|\n)\s*(import|export)\s+(type\s+)?[^"';]*?from\s+"([^"]+)"|import\(\s*"([^"]+)"\s*\)|(?:^|\n)import\s+"([^"]+)"/g;
  return [...text.matchAll(pattern)].map((match) => ({
    file,
    typeOnly: match[2] !== undefined,
    target: match[3] ?? match[4] ?? match[5] ?? "",
  }));
}

function violations(imports: readonly Import[]): string[] {
  const found: string[] = [];
  for (const { file, target, typeOnly } of imports) {
    const room = file.split("/")[0] ?? file;
    if (!target.startsWith(".")) {
      const library = target.startsWith("@")
        ? target.split("/").slice(0, 2).join("/")
        : (target.split("/")[0] ?? target);
      const rooms = LIBRARY_ROOMS[target] ?? LIBRARY_ROOMS[library];
      if (rooms && !rooms.includes(room) && !typeOnly)
        found.push(`${file}: ${library} belongs to ${rooms.join(", ")}`);
      continue;
    }
    const to = relative(root, join(root, dirname(file), target));
    const toRoom = to.split("/")[0] ?? to;
    const implementation = IMPLEMENTATION.exec(to);
    const own = implementation && file.startsWith(`${implementation[1]}/${implementation[2]}/`);
    if (implementation && !own && room !== "controller") {
      found.push(`${file}: only controller/ may name ${to}`);
    }
    if (toRoom === room) continue;
    const from = FLOORS[room];
    const floor = FLOORS[toRoom];
    if (from === undefined || floor === undefined)
      found.push(`${file}: ${toRoom} or ${room} is no room`);
    else if (floor >= from && !(room === "domain" && toRoom === "platform")) {
      found.push(`${file}: ${room} (floor ${from}) imports ${toRoom} (floor ${floor})`);
    }
  }
  return found;
}

test("rooms import only lower floors, libraries stay in their room, only controller names implementations", () => {
  const files = globSync("**/*.ts", { cwd: root });
  assert.ok(files.length > 20, "the walk found the sources");
  assert.deepEqual(violations(files.flatMap(importsOf)), []);
});

test("the room rule is red on planted violations", () => {
  const planted: Import[] = [
    { file: "store/x.ts", target: "../fleet/fleet.ts", typeOnly: false },
    { file: "cli/x.ts", target: "ssh2", typeOnly: false },
    { file: "dispatch/x.ts", target: "../providers/local/local.ts", typeOnly: false },
  ];
  assert.equal(violations(planted).length, 3);
});
