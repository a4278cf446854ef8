import { writeSync } from "node:fs";
import { addTask, open } from "../rig.ts";

/*
 * A process that writes to the stores named on its command line, one mutation after the other on each, until its
 * stdin ends or it is killed. `ready FLEET...` when they are open; `PATH-INDEX N` (without a buffer in between) for
 * each mutation that was acknowledged; at the end `longest MS`. Arguments: its name, then the paths.
 */
const [name = "writer", ...paths] = process.argv.slice(2);
const say = (line: string) => void writeSync(1, `${line}\n`);

const ended = new AbortController();
process.stdin.on("end", () => ended.abort());
const started = new Promise((resolve) => process.stdin.once("data", resolve));

const stores = await Promise.all(paths.map((path) => open(path)));
say(`ready ${stores.map(({ fleetId }) => fleetId).join(" ")}`);
await started;

let longest = 0;
await Promise.all(
  stores.map(async (store, index) => {
    for (let n = 0; !ended.signal.aborted; n += 1) {
      const asked = performance.now();
      await addTask(store, `${name}-${n}`);
      longest = Math.max(longest, performance.now() - asked);
      say(`${index} ${n}`);
    }
  }),
);
say(`longest ${Math.round(longest)}`);
await Promise.all(stores.map((store) => store.close()));
