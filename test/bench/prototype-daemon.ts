import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { DatabaseSync } from "node:sqlite";
import { createInterface } from "node:readline";
import ssh2 from "ssh2";
import { z } from "zod";

/*
 * The floor: the least that has to be done to put a prompt in an agent's hands, without any of the promises. Four durable commits, one kept
 * connection a worker, fetch and reset in its clone, a window, a paste, an acknowledged hash. argv: a JSON file, see `settings`.
 */

const settings = z.object({
  socket: z.string(),
  database: z.string(),
  privateKey: z.string(),
  user: z.string(),
  agent: z.string(),
  bootS: z.number(),
  workers: z.array(z.object({ name: z.string(), port: z.number(), events: z.string() })),
});
export type PrototypeSettings = z.infer<typeof settings>;

const FETCH = `cd "$HOME/kite" && git fetch --quiet origin && git reset --quiet --hard origin/main && git clean --quiet -fd`;

interface Worker {
  readonly client: ssh2.Client;
  readonly events: string;
  /** Resolves with the rest of the agent's line that begins with these words. */
  heard(words: string): Promise<string>;
}

async function main(file: string): Promise<void> {
  const given = settings.parse(JSON.parse(readFileSync(file, "utf8")));
  const database = new DatabaseSync(given.database);
  database.exec(
    "pragma journal_mode = wal; pragma synchronous = full; create table log (id text, state text)",
  );
  const insert = database.prepare("insert into log values (?, ?)");
  const workers = new Map<string, Worker>();
  for (const worker of given.workers) {
    workers.set(worker.name, await openWorker(given, worker.port, worker.events));
  }
  let last = 0;
  const dispatch = async (name: string, text: string) => {
    const worker = workers.get(name);
    if (worker === undefined) throw new Error(`no worker ${name}`);
    last += 1;
    const id = `p${last}`;
    insert.run(id, "accepted");
    await exec(worker.client, FETCH);
    insert.run(id, "provisioned");
    const ready = worker.heard(`ready ${id}`);
    const held = worker.heard(`held ${id}`);
    const agent = `${given.agent} ${worker.events} ${id} ${Buffer.byteLength(text)} ${given.bootS}`;
    const window = await exec(
      worker.client,
      `tmux -u new-window -d -P -F '#{window_id}' -t =kite-dev: -n agent '${agent}'`,
    );
    await ready;
    insert.run(id, "launched");
    const pane = window.trim();
    await exec(
      worker.client,
      `tmux -u load-buffer -b ${id} - \\; paste-buffer -b ${id} -d -r -t '${pane}'`,
      text,
    );
    const [ns, hash] = (await held).split(" ");
    insert.run(id, "delivered");
    return { id, heldAt: Number(ns) / 1e6, hash };
  };
  createServer((socket) => {
    createInterface({ input: socket }).on("line", (line) => {
      const { worker, text } = JSON.parse(line) as { worker: string; text: string };
      dispatch(worker, text).then(
        (answer) => socket.write(`${JSON.stringify(answer)}\n`),
        (error: unknown) => socket.destroy(error instanceof Error ? error : undefined),
      );
    });
    socket.on("error", () => {});
  }).listen(given.socket, () => process.stdout.write("ready\n"));
}

async function openWorker(given: PrototypeSettings, port: number, events: string): Promise<Worker> {
  const client = new ssh2.Client();
  await new Promise<void>((resolve, reject) => {
    client
      .once("ready", resolve)
      .once("error", reject)
      .connect({
        host: "127.0.0.1",
        port,
        username: given.user,
        privateKey: given.privateKey,
        algorithms: { kex: ["curve25519-sha256"] },
      });
  });
  client.setNoDelay(true);
  const listeners = new Map<string, (rest: string) => void>();
  await new Promise<void>((resolve, reject) => {
    client.exec(`touch ${events} && exec tail -n 0 -f ${events}`, (error, channel) => {
      if (error !== undefined) return reject(error);
      createInterface({ input: channel }).on("line", (line) => {
        const [kind = "", id = "", ...rest] = line.split(" ");
        const words = `${kind} ${id}`;
        listeners.get(words)?.(rest.join(" "));
        listeners.delete(words);
      });
      resolve();
    });
  });
  const heard = (words: string) =>
    new Promise<string>((resolve) => {
      listeners.set(words, resolve);
    });
  return { client, events, heard };
}

function exec(client: ssh2.Client, command: string, input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error !== undefined) return reject(error);
      let output = "";
      let said = "";
      channel.on("data", (chunk: Buffer) => (output += chunk.toString()));
      channel.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
      channel.on("close", (code: number | null) => {
        if (code === 0) resolve(output);
        else reject(new Error(`${command} ended with ${code}: ${said}`));
      });
      channel.end(input);
    });
  });
}

void main(process.argv[2] ?? "");
