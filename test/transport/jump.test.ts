import { realpath } from "node:fs/promises";

import type { Hop, OpenTransport } from "../../src/transport/transport.ts";
import { openSshTransport } from "../../src/transport/ssh.ts";
import { exerciseTransport } from "../conformance/transport.ts";
import { generateClientKeys } from "../support/client-keys.ts";
import { lan } from "../support/ssh-fleet.ts";

const keys = generateClientKeys("test");
let gate: Hop | undefined;

/** What the suite dials goes through a jump host. */
const openThroughJump: OpenTransport = (settings) => {
  const { address, privateKey, onHostKey } = settings;
  let { hostKey } = settings;
  const learn = (shown: string) => {
    if (hostKey === null && onHostKey?.(shown) === true) hostKey = shown;
    return hostKey === shown;
  };
  return openSshTransport({
    ...settings,
    route: async () => {
      if (gate === undefined || address.kind !== "tcp") throw new Error("no jump host");
      const target = {
        name: address.host,
        host: address.host,
        port: address.port,
        user: address.user,
        privateKeys: [privateKey],
        hostKeys: hostKey === null ? [] : [hostKey],
        onHostKey: learn,
      };
      return [gate, target];
    },
  });
};

exerciseTransport("ssh2 through a jump host", openThroughJump, async () => {
  const machines = lan([keys.publicKey]);
  const jump = await machines.machine("gate", { forwards: true });
  const host = await machines.machine("mini");
  gate = {
    name: "gate",
    host: jump.address,
    port: jump.port,
    user: jump.user,
    privateKeys: [keys.privateKey],
    hostKeys: [jump.hostKey()],
  };
  return {
    port: host.port,
    user: host.user,
    privateKey: keys.privateKey,
    hostKey: host.hostKey(),
    home: await realpath(host.home),
    [Symbol.asyncDispose]: () => machines[Symbol.asyncDispose](),
  };
});
