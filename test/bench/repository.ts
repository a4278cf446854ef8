import { createHash } from "node:crypto";

/** As large as the one that the goals were set with: 200 files, 2.7 MB. The same in every run. */
const COUNT = 200;
const BYTES = 13_500;

/** Path -> content of the repository that product, prototype and scripts all work on. */
export const REPOSITORY: Readonly<Record<string, string>> = Object.fromEntries([
  ["README.md", "# kite\n"],
  ...Array.from({ length: COUNT }, (_, index) => [
    `src/module-${Math.floor(index / 20)}/file-${index}.txt`,
    textOf(index),
  ]),
]);

/** Lines that do not compress to nothing, as source code does not. */
function textOf(seed: number): string {
  let text = "";
  for (let line = 0; text.length < BYTES; line += 1) {
    const word = createHash("sha256").update(`${seed} ${line}`).digest("hex");
    text += `const value${line} = lookUp("${word.slice(0, 24)}", { limit: ${line}, of: "a source" });\n`;
  }
  return text.slice(0, BYTES);
}
