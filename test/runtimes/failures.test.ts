import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { causeOfFailure } from "../../src/runtimes/claude/failure.ts";
import { TESTED_VERSION } from "../../src/runtimes/claude/vendor-data.ts";
import { FAILURES } from "../../src/runtimes/claude/vendor-failures.ts";
import { resetTime } from "../../src/runtimes/reset-time.ts";

interface Recorded {
  readonly what: string;
  readonly error: string;
  readonly last_assistant_message: string;
}

const recorded = JSON.parse(
  readFileSync(
    join(import.meta.dirname, `../fixtures/failures/claude/${TESTED_VERSION}.json`),
    "utf8",
  ),
) as Recorded[];

/** Shortly before the recording. */
const AT = Date.UTC(2026, 10, 25, 13, 5);

const EXPECTED: Readonly<Record<string, readonly [string, string, string?] | null>> = {
  "429": ["rate_limit", "rate limit"],
  "429 five_hour": ["rate_limit", "rate limit"],
  "429 five_hour-oauth": ["usage_limit", "5-hour usage limit", "2026-11-25T13:23:00.000Z"],
  "429 seven_day-oauth": ["usage_limit", "weekly usage limit", "2026-11-27T20:40:00.000Z"],
  "429 seven_day-opus-oauth": ["usage_limit", "Opus usage limit", "2026-11-27T20:39:00.000Z"],
  "529": ["overloaded", "API overloaded"],
  "500": null,
  "401": ["credential", "API key refused"],
  "401-auth-token": ["credential", "credential refused"],
  "401-oauth-expired": ["credential", "login expired"],
  "403": ["credential", "credential refused"],
  "403-oauth-revoked": ["credential", "login revoked"],
  "400-credit": ["billing", "credit balance too low"],
  "400-unknown": null,
  "400-too-long": ["context", "context exhausted"],
  "stop reason refusal": ["refusal", "refused by the model"],
  "stop reason max_tokens": ["output", "answer over its token limit"],
  "stop reason model_context_window_exceeded": ["context", "context exhausted"],
};

for (const { what, error, last_assistant_message: words } of recorded) {
  test(`a failure that ${TESTED_VERSION} showed is what it was: ${what}`, () => {
    const expected = EXPECTED[what];
    assert.notEqual(expected, undefined, "each recording has its meaning here");
    const cause = causeOfFailure(error, words, AT);
    if (expected == null) return assert.equal(cause, null);
    const until = cause?.until == null ? undefined : new Date(cause.until).toISOString();
    assert.deepEqual([cause?.kind, cause?.label, until], [...expected, undefined].slice(0, 3));
  });
}

test("every row of the vendor's data that is said to be recorded fits a recording", () => {
  for (const row of FAILURES.filter(({ from }) => from === "recorded")) {
    const fits = recorded.some(
      ({ error, last_assistant_message: words }) =>
        row.errors.includes(error) && (row.says === undefined || row.says.test(words)),
    );
    assert.ok(fits, `${row.label} (${row.errors.join()})`);
  }
});

test("words of an unknown failure, and known words under another error, are no cause", () => {
  for (const [error, words] of [
    ["unknown", "You've hit your 5-hour limit · resets 3pm (UTC)"],
    ["server_error", "API Error: 500 the log says 529 Overloaded"],
    ["invalid_request", "API Error: 400 the prompt is too long, they said"],
    ["constructor", "Invalid API key"],
    ["authentication_failed", "403 · the network this request came from isn't allowed: a VPN"],
    ["", ""],
  ] as const) {
    assert.equal(causeOfFailure(error, words, AT), null, `${error}: ${words}`);
  }
});

const RESETS: readonly (readonly [string, Parameters<typeof resetTime>[0], string | null])[] = [
  ["today", { hour: "1", minute: "20", half: "pm", zone: "UTC" }, "2026-11-25T13:21:00.000Z"],
  ["tomorrow", { hour: "3", half: "am" }, "2026-11-26T03:01:00.000Z"],
  ["noon", { hour: "12", half: "pm", zone: "America/New_York" }, "2026-11-25T17:01:00.000Z"],
  ["midnight", { hour: "12", half: "am", zone: "Asia/Kolkata" }, "2026-11-25T18:31:00.000Z"],
  ["24 hours", { hour: "23", minute: "05", zone: "Europe/Vienna" }, "2026-11-25T22:06:00.000Z"],
  ["a date", { month: "Nov", day: "27", hour: "8", half: "pm" }, "2026-11-27T20:01:00.000Z"],
  ["next year", { month: "Jan", day: "2", hour: "8", half: "am" }, "2027-01-02T08:01:00.000Z"],
  ["too far to be a window", { month: "Oct", day: "1", hour: "8", half: "am" }, null],
  ["an hour that is none", { hour: "13", half: "pm" }, null],
  ["a zone that nobody knows", { hour: "3", half: "pm", zone: "Mars/Olympus" }, null],
  ["nothing", {}, null],
];

for (const [what, named, expected] of RESETS) {
  test(`a reset time is the next one that bears it: ${what}`, () => {
    const at = resetTime(named, AT);
    assert.equal(at === null ? null : new Date(at).toISOString(), expected);
  });
}

test("around a change of the clocks a reset time is that of its zone", () => {
  // New York went back from -04:00 to -05:00 on 1 November 2026 at 06:00 UTC.
  const before = Date.UTC(2026, 10, 1, 3);
  assert.equal(
    resetTime({ hour: "3", half: "am", zone: "America/New_York" }, before),
    Date.UTC(2026, 10, 1, 8, 1),
  );
});
