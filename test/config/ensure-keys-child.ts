import { ensureKeys } from "../../src/config/keys.ts";
import { homePaths } from "../../src/config/paths.ts";
import { randomIds } from "../../src/platform/ids.ts";

/** argv: home. Prints the public line. */
const { publicLine } = await ensureKeys(homePaths(process.argv[2] ?? ""), randomIds());
process.stdout.write(`${publicLine}\n`);
