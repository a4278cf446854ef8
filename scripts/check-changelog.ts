import { readFileSync } from "node:fs";

/*
 * Run by `npm version`: a version without a word for its users is not released.
 */

const path = "CHANGELOG.md";
const sections = readFileSync(path, "utf8").split(/^## /m);
const unreleased = sections.find((section) => /^Unreleased\s*$/m.exec(section)?.index === 0);
const words = (unreleased ?? "")
  .replace("Unreleased", "")
  .replaceAll(/<!--.*?-->/gs, "")
  .replaceAll(/^#+ .*$/gm, "");

if (!/[\p{L}\p{N}]/u.test(words)) {
  const what =
    unreleased === undefined ? "has no section 'Unreleased'" : "says nothing under 'Unreleased'";
  process.stderr.write(
    `${path} ${what}: write there what changes for users, then run npm version again\n`,
  );
  process.exitCode = 1;
}
