import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";

/*
 * Networks of one test, in namespaces: the test itself runs in one (see `enterNamespace`), every machine in another. Nothing of it is seen
 * outside, and all of it ends with the test's process.
 */

/** Why this machine cannot do that; null when it can. */
export function whyNoNamespaces(): string | null {
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const [program, option] of [
    ["ip", "-V"],
    ["unshare", "--version"],
    ["nsenter", "--version"],
  ] as const) {
    if (spawnSync(program, [option]).status !== 0) return `${program} is not installed`;
  }
  const probe = [
    "-n",
    "-m",
    "--",
    "sh",
    "-c",
    "ip link set lo up && ip link add probe type bridge",
  ];
  const tried = spawnSync("unshare", probe, { encoding: "utf8" });
  return tried.status === 0 ? null : `no namespaces here: ${tried.stderr.trim()}`;
}

const ip = (...args: string[]): void => {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
};

export interface Network {
  /** A namespace on the test's own network. */
  machine(name: string): { namespace: string; address: string };
  /** A namespace that only another one can reach. */
  behind(gate: string, name: string): { namespace: string; address: string };
  /** Whether anything passes between the test and the machine. */
  link(name: string, state: "up" | "down"): void;
}

/** Call it in a process that runs in network and mount namespaces of its own. */
export function network(): Network {
  mkdirSync("/run/netns", { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", "/run/netns"]);
  ip("link", "set", "lo", "up");
  ip("link", "add", "lan", "type", "bridge");
  ip("addr", "add", "10.77.0.1/24", "dev", "lan");
  ip("link", "set", "lan", "up");
  let made = 1;
  const join = (name: string, peer: readonly string[], address: string) => {
    ip("netns", "add", name);
    ip("-n", name, "link", "set", "lo", "up");
    ip("link", "add", `to-${name}`, "type", "veth", "peer", "name", `up-${name}`, "netns", name);
    ip("-n", name, "addr", "add", `${address}/24`, "dev", `up-${name}`);
    ip("-n", name, "link", "set", `up-${name}`, "up");
    ip("link", "set", `to-${name}`, ...peer);
    return { namespace: name, address };
  };
  return {
    machine(name) {
      made += 1;
      const machine = join(name, ["master", "lan"], `10.77.0.${made}`);
      ip("link", "set", `to-${name}`, "up");
      return machine;
    },
    behind(gate, name) {
      made += 1;
      const machine = join(name, ["netns", gate], `10.78.${made}.2`);
      ip("-n", gate, "addr", "add", `10.78.${made}.1/24`, "dev", `to-${name}`);
      ip("-n", gate, "link", "set", `to-${name}`, "up");
      return machine;
    },
    link: (name, state) => ip("link", "set", `to-${name}`, state),
  };
}
