import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { checkConfig } from "../../src/config/load.ts";
import type { OrchestratorError } from "../../src/domain/errors.ts";
import { CredentialCheck } from "../../src/fleet/check-credential.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLogger } from "../../src/platform/logger.ts";
import { createClaudeRuntime } from "../../src/runtimes/claude/runtime.ts";

const SECRET = "sk-dummy-0123456789";

async function api(answer: () => number) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.url ?? ""} ${String(request.headers["x-api-key"])}`);
    response
      .writeHead(answer(), { "content-type": "application/json", location: "/elsewhere" })
      .end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  return { url: `http://127.0.0.1:${port}`, asked, [Symbol.asyncDispose]: close };
}

function repoAt(baseUrl: string) {
  const auth = { kind: "api-key", secret: "env:SOME_KEY", baseUrl };
  const config = checkConfig({ repos: { kite: { url: "/r.git", auth } } }, "test");
  return config.repos["kite"]!;
}

const check = () => new CredentialCheck({ clock: systemClock(), logger: silentLogger });

test("a credential that the API refuses is one clear error, without the credential", async () => {
  await using server = await api(() => 401);
  await assert.rejects(
    check().check(repoAt(server.url), createClaudeRuntime(), SECRET),
    (error: OrchestratorError) => {
      assert.equal(error.code, "unauthorized");
      assert.match(error.hint ?? "", /env:SOME_KEY/);
      assert.ok(!JSON.stringify([error.message, error.hint, error.details]).includes(SECRET));
      return true;
    },
  );
  assert.deepEqual(server.asked, [`/v1/models?limit=1 ${SECRET}`]);
});

test("an accepted credential is asked about once; anything but a refusal decides nothing and is asked again", async () => {
  for (const [status, questions] of [
    [200, 1],
    [403, 2],
    [404, 2],
    [500, 2],
    [302, 2],
  ] as const) {
    await using server = await api(() => status);
    const credentials = check();
    await credentials.check(repoAt(server.url), createClaudeRuntime(), SECRET);
    await credentials.check(repoAt(server.url), createClaudeRuntime(), SECRET);
    assert.equal(server.asked.length, questions, String(status));
  }
});

test("an API that nobody answers at decides nothing", async () => {
  const server = await api(() => 200);
  await server[Symbol.asyncDispose]();
  await check().check(repoAt(server.url), createClaudeRuntime(), SECRET);
});
