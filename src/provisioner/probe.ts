import { cleanText } from "../domain/text.ts";
import type { Transport } from "../transport/transport.ts";
import { execWorker, workerFailed, type Bundle } from "./bundle.ts";
import type { Probe, ProbedWindow } from "./provisioner.ts";

const TIMEOUT_MS = 30_000;
const RUN = /^[a-z0-9][a-z0-9-]{0,99}$/;

/** What the worker knows of itself now. Changes nothing there; what is missing is null, zero or empty. */
export async function probe(
  transport: Transport,
  bundle: Bundle,
  session: string,
  launch?: { readonly run: string; readonly launch: number },
): Promise<Probe> {
  const args = launch === undefined ? [] : [launch.run, String(launch.launch)];
  const result = await execWorker(transport, bundle, "probe", [session, ...args], {
    timeoutMs: TIMEOUT_MS,
  });
  const parsed = result.code === 0 ? parseProbe(result.stdout) : undefined;
  if (parsed === undefined) throw workerFailed(`probe ${session}`, result);
  return parsed;
}

/** Parses the lines of `probe`; a line that does not parse is dropped. Undefined without the boot id, which is always there. */
export function parseProbe(stdout: string): Probe | undefined {
  const rows = stdout.split("\n").map((line) => line.split("\t"));
  const fieldsOf = (kind: string) => rows.find(([first]) => first === kind)?.slice(1);
  const bootId = fieldsOf("boot")?.[0] ?? "";
  if (!/^[\w-]{1,64}$/.test(bootId)) return undefined;
  const owner = fieldsOf("owner")?.[0] ?? "";
  const pulse = numberOf(fieldsOf("pulse")?.[0]);
  return {
    bootId,
    owner: owner === "" ? null : cleanText(owner, 100),
    fence: numberOf(fieldsOf("fence")?.[0]) ?? 0,
    attached: numberOf(fieldsOf("attached")?.[0]) ?? 0,
    windows: rows.flatMap((row) => windowOf(row) ?? []),
    current: currentOf(fieldsOf("current")),
    agent: agentOf(fieldsOf("agent")),
    registry: registryOf(fieldsOf("registry")),
    pulseAgeMs: pulse === null ? null : pulse * 1_000,
  };
}

function windowOf([kind, id = "", index, pid, dead, ...name]: readonly string[]):
  | ProbedWindow
  | undefined {
  const [indexNumber, panePid] = [numberOf(index), numberOf(pid)];
  if (kind !== "window" || !/^@\d{1,9}$/.test(id)) return undefined;
  if (indexNumber === null || panePid === null) return undefined;
  const shown = cleanText(name.join(" "), 200);
  return { id, index: indexNumber, panePid, dead: dead === "1", name: shown };
}

function currentOf(fields: readonly string[] | undefined): Probe["current"] {
  const [run = "", number] = fields ?? [];
  const launch = numberOf(number);
  return RUN.test(run) && launch !== null ? { run, launch } : null;
}

function agentOf(fields: readonly string[] | undefined): Probe["agent"] {
  const [life, number] = fields ?? [];
  const pid = numberOf(number);
  if (pid === null || (life !== "alive" && life !== "dead")) return null;
  return { alive: life === "alive", pid };
}

function registryOf(fields: readonly string[] | undefined): Probe["registry"] {
  const [status = "", waitingFor = ""] = fields ?? [];
  if (status === "") return null;
  return {
    status: cleanText(status, 40),
    waitingFor: waitingFor === "" ? null : cleanText(waitingFor, 100),
  };
}

const numberOf = (text: string | undefined): number | null =>
  text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
