import assert from "node:assert/strict";
import { test } from "node:test";
import { isFull } from "../../src/fleet/disk.ts";

const line = (total: number, used: number, free: number) =>
  `/dev/my disk ${total} ${used} ${free} ${Math.round((100 * used) / total)}% /home\n`;

test("a disk is full below 1 MB, or without inodes where their number is fixed", () => {
  const roomy = line(1_000, 1, 999);
  const cases: [string, boolean][] = [
    [line(100_000, 98_900, 1_100) + roomy, false],
    [line(100_000, 99_100, 900) + roomy, true],
    [line(100_000, 100_000, -20) + roomy, true],
    [line(100_000, 1, 99_999) + line(50, 50, 0), true],
    ["none 100000 1 99999 1% /home\nnone 0 0 0 - /home\n", false],
    [line(100_000, 99_100, 900), true],
    ["", false],
    ["df: cannot read\n", false],
  ];
  for (const [df, full] of cases) assert.equal(isFull(df), full, df);
});
