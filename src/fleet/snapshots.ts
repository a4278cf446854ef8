/** Snapshots as the mirror holds them: refs `refs/orchestrator/<run>/<epoch>/<number>/<name>`, created once and never moved. */
export interface Snapshot {
  readonly run: string;
  readonly epoch: number;
  /** Wall time (ms) at which it was taken; rises within a run. */
  readonly number: number;
  readonly refs: readonly { readonly name: string; readonly sha: string }[];
}

export const snapshotPrefix = (run: string, epoch: number, number: number): string =>
  `refs/orchestrator/${run}/${epoch}/${number}`;

/** The commit that holds the main work tree, files not committed included; the head where nothing is beside it. */
export const commitOf = (snapshot: Snapshot): string | null =>
  shaOf(snapshot, "work") ?? shaOf(snapshot, "head");

export const shaOf = (snapshot: Snapshot, name: string): string | null =>
  snapshot.refs.find((ref) => ref.name === name)?.sha ?? null;

const REF = /^([0-9a-f]{40,64}) refs\/orchestrator\/([a-z0-9-]+)\/(\d{1,15})\/(\d{1,15})\/(.+)$/;

/** Groups lines `SHA REF` into snapshots, oldest first. Other refs are none of ours. */
export function groupSnapshots(lines: readonly string[]): Snapshot[] {
  const found = new Map<string, Snapshot & { refs: { name: string; sha: string }[] }>();
  for (const line of lines) {
    const [, sha, run, epoch, number, name] = REF.exec(line) ?? [];
    if (sha === undefined || run === undefined || name === undefined) continue;
    const key = `${run}/${epoch}/${number}`;
    const snapshot = found.get(key) ?? {
      run,
      epoch: Number(epoch),
      number: Number(number),
      refs: [],
    };
    snapshot.refs.push({ name, sha });
    found.set(key, snapshot);
  }
  return [...found.values()].sort((a, b) => a.number - b.number || a.epoch - b.epoch);
}

export interface KeepRules {
  readonly now: number;
  readonly keepDays: number;
  readonly keepCount: number;
  /** Whether the last snapshot of that run may be all there is of its work. */
  isOnlyCopy(run: string): boolean;
}

const DAY_MS = 86_400_000;

/** Those that need not be kept any longer: too old, or too many of their run. Never the last one of a run of which it may be the only copy. Pure. */
export function outdatedSnapshots(snapshots: readonly Snapshot[], rules: KeepRules): Snapshot[] {
  const runs = Map.groupBy(snapshots, (snapshot) => snapshot.run);
  return [...runs].flatMap(([run, ofRun]) => {
    const sorted = ofRun.toSorted((a, b) => a.number - b.number);
    const spared = rules.isOnlyCopy(run) ? 1 : 0;
    return sorted.filter((snapshot, index) => {
      const fromEnd = sorted.length - index;
      if (fromEnd <= spared) return false;
      const isOld = rules.now - snapshot.number > rules.keepDays * DAY_MS;
      return isOld || fromEnd > rules.keepCount;
    });
  });
}
