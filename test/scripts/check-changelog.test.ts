import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "..", "..");

/** `npm version minor` in a copy of the package with this changelog. */
function release(t: { after(action: () => void): void }, changelog: string) {
  const folder = mkdtempSync(join(tmpdir(), "release-"));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(join(ROOT, "package.json"), join(folder, "package.json"));
  cpSync(join(ROOT, "scripts"), join(folder, "scripts"), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "CHANGELOG.md"), changelog);
  const version = () =>
    (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string }).version;
  const before = version();
  const said = spawnSync(
    "npm",
    ["version", "minor", "--no-git-tag-version", "--offline", "--logs-max=0"],
    {
      cwd: folder,
      encoding: "utf8",
    },
  );
  return { code: said.status, stderr: said.stderr, isNew: version() !== before };
}

test("npm version is refused while Unreleased says nothing", (t) => {
  const former = "\n## 0.1.0\n\n- First version.\n";
  const silent = [
    `# Changelog\n\n## Unreleased\n${former}`,
    `# Changelog\n\n## Unreleased\n\n### Added\n\n-\n${former}`,
    `# Changelog\n\n## Unreleased\n\n<!-- what is\nnew -->\n${former}`,
    "# Changelog\n\n## Unreleased",
  ];
  for (const changelog of silent) {
    const { code, stderr, isNew } = release(t, changelog);
    assert.deepEqual([code, isNew], [1, false], changelog);
    assert.match(stderr, /CHANGELOG\.md says nothing under 'Unreleased'/);
  }
  const { code, stderr, isNew } = release(t, `# Changelog\n${former}`);
  assert.deepEqual([code, isNew], [1, false]);
  assert.match(stderr, /has no section 'Unreleased'/);
});

test("npm version passes when Unreleased says something, with either line end", (t) => {
  const changelog = "# Changelog\n\n## Unreleased\n\n- Kites.\n\n## 0.1.0\n";
  for (const text of [changelog, changelog.replaceAll("\n", "\r\n")]) {
    const { code, stderr, isNew } = release(t, text);
    assert.deepEqual([code, isNew], [0, true], stderr);
  }
});
