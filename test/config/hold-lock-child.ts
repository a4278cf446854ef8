import { withFileLock } from "../../src/config/file-lock.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";

/** argv: path. Prints `held` and holds the lock until it is killed. */
const [path = ""] = process.argv.slice(2);
await withFileLock(path, { clock: systemClock(), ids: randomIds() }, async () => {
  process.stdout.write("held\n");
  await new Promise((resolve) => setTimeout(resolve, 600_000));
});
