import { accountOf } from "./account.ts";
import type { FleetContext } from "./context.ts";
import { openLimits } from "./limits.ts";
import { openPause } from "./pauses.ts";

/** Whether making a worker of this pool must fail, since the credential that is written to it is refused. */
export async function lacksCredential(context: FleetContext, repo: string): Promise<boolean> {
  const config = context.config().repos[repo];
  if (config === undefined) return false;
  const account = accountOf(config, config.runtime).key;
  const limits = await openLimits(context.store.db);
  return limits.some((limit) => limit.kind === "credential" && limit.account === account);
}

/** Whether no worker is made for this pool ahead of need. */
export async function isClosed(context: FleetContext, repo: string): Promise<boolean> {
  const pause = await openPause(context.store.db, repo);
  return pause !== undefined || (await lacksCredential(context, repo));
}
