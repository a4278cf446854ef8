import type { Clock } from "../../platform/clock.ts";
import type { ProviderWorker } from "../provider.ts";
import type { Entry } from "./folder.ts";
import { findSshd } from "./sshd.ts";

/** A worker whose labels cannot be read has no id of its own: it is shown under its name and belongs to nobody. */
export const idOf = ({ name, labels }: Entry): string => labels?.id ?? `unreadable:${name}`;

/** What is known of a worker, without waking it. */
export async function describeEntry(entry: Entry, clock: Clock): Promise<ProviderWorker> {
  const { name, folder, labels } = entry;
  const state = async () => {
    try {
      return (await findSshd(folder, clock)) === undefined ? "cold" : "running";
    } catch {
      return "unreachable";
    }
  };
  return {
    id: idOf(entry),
    name,
    fleetId: labels?.fleetId ?? null,
    nonce: labels?.nonce ?? null,
    state: labels === undefined ? "unreachable" : await state(),
    createdAt: labels?.createdAt ?? null,
  };
}
