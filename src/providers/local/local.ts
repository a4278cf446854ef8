import { mkdirSync, readFileSync, readdirSync, realpathSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";

import { isName, parseName } from "../../domain/names.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Ids } from "../../platform/ids.ts";
import type { CreateRequest, Dial, Provider } from "../provider.ts";
import { ProviderError } from "../provider-error.ts";
import { createFolder } from "./create.ts";
import { describeEntry, idOf } from "./describe.ts";
import { type Entry, type Folder, folderAt, listEntries, readEntry, tmuxDir } from "./folder.ts";
import { type Labels, parseLabels } from "./labels.ts";
import { lock } from "./lock.ts";
import { WORKER_MARK } from "./processes.ts";
import { removeWorker, sweep } from "./remove.ts";
import { ensureSshd, findSshdProgram } from "./sshd.ts";

export interface LocalOptions {
  /** Folder of all local workers, e.g. `~/.sprite-orchestrator/local`; made when needed. Absolute. */
  readonly root: string;
  readonly clock: Clock;
  readonly ids: Ids;
  /** Most workers that may exist; null: no limit. */
  readonly maxWorkers?: number | null;
  /** `PATH` of the workers' commands. Default: the system's usual folders. */
  readonly path?: string;
  /** How long a destroyed worker's programs have to end by themselves. Default: 2 s. */
  readonly graceMs?: number;
  /** Absolute path of sshd. Default: looked up in the usual folders. */
  readonly sshd?: string;
}

/** The environment that the worker's sshd gives, and nothing of the operator's but the terminal and the shell. */
const CONSOLE = `cd "$HOME" && exec env -i TERM="\${TERM:-xterm}" SHELL="\${SHELL:-/bin/sh}" LANG=C.UTF-8 HOME="$HOME" PATH="$PATH" TMUX_TMPDIR="$TMUX_TMPDIR" ${WORKER_MARK}="$${WORKER_MARK}" "\${SHELL:-/bin/sh}"`;

const DEFAULT_GRACE_MS = 2_000;
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Workers as folders of this machine: own home, own sshd on loopback, own tmux server. They share the account and the
 * file system with whoever runs the controller: separate, not confined. Linux only (`/proc`, abstract sockets).
 * A worker is `running` while its sshd lives and `cold` otherwise; programs inside outlive an sshd that ended.
 */
export function localProvider(options: LocalOptions): Provider {
  const { clock, ids, maxWorkers = null } = options;
  const rootPath = () => prepareRoot(options.root);

  const find = async (id: string): Promise<Entry | undefined> => {
    const entries = await listEntries(rootPath());
    const found = entries.find((entry) => idOf(entry) === id);
    if (found === undefined && entries.some(({ labels }) => labels === undefined)) {
      throw new ProviderError("unavailable", `local worker ${id} may be one whose labels are lost`);
    }
    return found;
  };

  const capacity = async (): Promise<number | null> =>
    maxWorkers === null ? null : Math.max(0, maxWorkers - (await listEntries(rootPath())).length);

  return {
    id: "local",
    capabilities: {
      sleeps: false,
      checkpoints: false,
      awakeHolds: false,
      needsSshBootstrap: false,
      sharesMachine: true,
      attachDirect: true,
    },

    async list(prefix) {
      const entries = await listEntries(rootPath());
      const wanted = entries.filter(({ name }) => name.startsWith(prefix));
      return Promise.all(wanted.map((entry) => describeEntry(entry, clock)));
    },

    async get(id) {
      const entry = await find(id);
      return entry === undefined ? null : describeEntry(entry, clock);
    },

    async create(request) {
      checkRequest(request);
      const root = rootPath();
      await sweep(root, clock);
      const existing = await readEntry(root, request.name);
      if (existing === undefined && (await capacity()) === 0) {
        throw new ProviderError("no_capacity", `there are ${maxWorkers} local workers already`);
      }
      const labels = await createFolder(root, request, { clock, ids });
      return describeEntry(
        { name: labels.name, folder: folderAt(join(root, labels.name)), labels },
        clock,
      );
    },

    async destroy(id) {
      const root = rootPath();
      const entry = await find(id);
      if (entry !== undefined) {
        await using _held = await lock(root, entry.name, clock);
        await destroyLocked(root, id, entry.name, options.graceMs ?? DEFAULT_GRACE_MS, clock);
      }
      await sweep(root, clock);
    },

    async dial(id): Promise<Dial> {
      const root = rootPath();
      const entry = await find(id);
      if (entry === undefined) throw gone(id);
      await using _held = await lock(root, entry.name, clock);
      const labels = (await readEntry(root, entry.name))?.labels;
      if (labels === undefined || labels.id !== id) throw gone(id);
      const program = options.sshd ?? (await findSshdProgram());
      if (program === undefined) throw noSshd();
      const path = options.path ?? DEFAULT_PATH;
      const { port } = await ensureSshd(entry.folder, labels, { clock, program, path });
      const user = userInfo().username;
      return {
        address: { kind: "tcp", host: "127.0.0.1", port, user },
        hostKey: labels.hostKey,
      };
    },

    capacity,

    async attachArgv(id, session) {
      const { folder, labels } = findSync(rootPath(), id);
      return {
        // -E keeps the operator's agent sockets and display out of the worker's session.
        argv: ["tmux", "-u", "attach-session", "-E", "-t", `=${session}`],
        // An empty TMUX lets an operator attach who sits in a tmux of their own.
        env: { TMUX_TMPDIR: tmuxDir(folder, labels), TMUX: "" },
      };
    },

    async consoleArgv(id) {
      const { folder, labels } = findSync(rootPath(), id);
      return {
        argv: ["sh", "-c", CONSOLE],
        env: {
          HOME: folder.home,
          PATH: options.path ?? DEFAULT_PATH,
          TMUX_TMPDIR: tmuxDir(folder, labels),
          [WORKER_MARK]: id,
        },
      };
    },
  };
}

/** Re-checks the id right before: a name that belongs to another worker by now is left alone. */
async function destroyLocked(
  root: string,
  id: string,
  name: string,
  graceMs: number,
  clock: Clock,
): Promise<void> {
  const entry = await readEntry(root, name);
  if (entry === undefined || idOf(entry) !== id) return;
  if (entry.labels === undefined) {
    throw new ProviderError("rejected", `local worker ${name} has no readable labels`, {
      hint: `look into ${entry.folder.path}: nobody knows whose it is`,
    });
  }
  await removeWorker(root, entry, entry.labels, graceMs, clock);
}

function checkRequest({ name, fleetId, nonce, authorizedKey }: CreateRequest): void {
  parseName(name, "worker name");
  if (fleetId === "" || nonce === "" || !/^[^\r\n]+\n?$/.test(authorizedKey)) {
    throw new ProviderError(
      "rejected",
      `local worker ${name} needs a fleet id, a nonce and one public key line`,
    );
  }
}

/** The real path: what the kernel says of open files, and the same for everybody who locks. */
function prepareRoot(path: string): string {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return realpathSync(path);
  } catch (cause) {
    throw new ProviderError("unavailable", `the folder of local workers ${path} cannot be made`, {
      cause,
    });
  }
}

function findSync(root: string, id: string): { folder: Folder; labels: Labels } {
  for (const name of readdirSync(root).filter(isName)) {
    const folder = folderAt(join(root, name));
    try {
      const labels = parseLabels(readFileSync(folder.labels, "utf8"));
      if (labels.id === id && labels.name === name) return { folder, labels };
    } catch {
      // Not the one that is looked for, as far as anybody can tell.
    }
  }
  throw gone(id);
}

const gone = (id: string) => new ProviderError("gone", `there is no local worker ${id}`);

const noSshd = () =>
  new ProviderError("rejected", "local workers need sshd, which is not installed here", {
    hint: "install the package openssh-server; its service need not run",
  });
