import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { generateClientKeys } from "../support/client-keys.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import { exerciseTransport } from "../conformance/transport.ts";
import { startSshServer } from "../fakes/ssh-server.ts";
import { localWorkers } from "../support/local-workers.ts";

exerciseTransport("ssh2 with OpenSSH's sshd", openSshTransport, async () => {
  const workers = await localWorkers();
  const { dial, home } = await workers.start("kite-1");
  if (dial.address.kind !== "tcp" || dial.hostKey === null) throw new Error("not a local worker");
  return {
    port: dial.address.port,
    user: dial.address.user,
    privateKey: workers.keys.privateKey,
    hostKey: dial.hostKey,
    home: await realpath(home),
    [Symbol.asyncDispose]: () => workers[Symbol.asyncDispose](),
  };
});

exerciseTransport("ssh2 with the fake server", openSshTransport, async () => {
  const home = await realpath(await mkdtemp(join(tmpdir(), "fake-")));
  const keys = generateClientKeys("test");
  const server = await startSshServer({ authorizedKey: keys.publicKey, home });
  return {
    port: server.port,
    user: "worker",
    privateKey: keys.privateKey,
    hostKey: server.hostKey,
    home,
    [Symbol.asyncDispose]: async () => {
      await server.close();
      await rm(home, { recursive: true, force: true });
    },
  };
});
