import { addRepo } from "../../src/config/edit.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { randomIds } from "../../src/platform/ids.ts";

/** argv: config path, then names of repos to add; prints each name once it is added. */
const [path = "", ...names] = process.argv.slice(2);
const effects = { clock: systemClock(), ids: randomIds() };
for (const name of names) {
  await addRepo(path, name, { url: `/srv/${name}` }, effects);
  process.stdout.write(`${name}\n`);
}
