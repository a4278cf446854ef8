import assert from "node:assert/strict";
import { test } from "node:test";
import { signatureOf } from "../../src/fleet/pauses.ts";

const failure = (tail: readonly string[], more: { step?: string; code?: number } = {}) => ({
  step: "setup",
  code: 50,
  tail,
  ...more,
});
const END = "scripts/dev-setup.sh ended with exit code 1";
const first = failure(["npm error code E404", END]);

const ALIKE: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  [
    "times and sizes",
    ["error: 14:03:07 gave up after 31.2 s, 1024 bytes", END],
    ["error: 09:11:55 gave up after 7.9 s, 88 bytes", END],
  ],
  [
    "homes and temporary folders",
    ["fatal: cannot open /srv/kite-1/home/kite/lib/x.so (/tmp/tmp.Ab3dE6/x)", END],
    ["fatal: cannot open /srv/kite-2/home/kite/lib/x.so (/tmp/tmp.9fGhIj/x)", END],
  ],
  ["the worker's name", ["error: kite-1 has no lease", END], ["error: kite-2 has no lease", END]],
  [
    "ids",
    ["error: job 3f2a9c81d0 of 7b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0 failed", END],
    ["error: job 90aa17fe42 of 01234567-89ab-cdef-0123-456789abcdef failed", END],
  ],
  ["what was said before the reason", ["a", "error: no", END], ["b", "c", "error: no", END]],
];

for (const [what, one, other] of ALIKE) {
  test(`failures that differ only in this are alike: ${what}`, () => {
    assert.equal(signatureOf(failure(one)), signatureOf(failure(other)));
  });
}

const OTHER: readonly (readonly [string, ReturnType<typeof failure>])[] = [
  ["another step", failure(first.tail, { step: "clone" })],
  ["another code", failure(first.tail, { code: 51 })],
  ["another reason", failure(["npm error code EACCES", END])],
  ["another end", failure(["npm error code E404", "scripts/dev-setup.sh is not a file"])],
];

for (const [what, other] of OTHER) {
  test(`a failure with ${what} is another one`, () => {
    assert.notEqual(signatureOf(first), signatureOf(other));
  });
}
