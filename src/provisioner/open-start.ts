import type { Transport } from "../transport/transport.ts";
import { parseStart, startArchive, START_TIMEOUT_MS } from "./agent.ts";
import {
  fenced,
  needsInstall,
  WORKER_CODES,
  workerArgv,
  workerFailed,
  type Bundle,
} from "./bundle.ts";
import type { OpenStart } from "./provisioner.ts";

const MAX_ANSWER = 4_000;

/** See `Provisioner.openStart`. Rejects when the command could not be begun. */
export async function openStart(
  transport: Transport,
  bundle: Bundle,
  input: {
    readonly epoch: number;
    readonly run: string;
    readonly launch: number;
    readonly session: string;
  },
): Promise<OpenStart> {
  const { epoch, run, launch, session } = input;
  const files = Promise.withResolvers<Uint8Array>();
  const ending = new AbortController();
  const args = [bundle.hash, String(epoch), run, String(launch), session];
  const stream = await transport.stream(workerArgv("start", args), {
    stdin: files.promise,
    signal: ending.signal,
  });
  const answered = readAnswer(stream);
  // Somebody may never ask.
  answered.catch(() => {});
  return {
    epoch,
    run,
    launch,
    async send(list) {
      files.resolve(startArchive(list));
      const late = AbortSignal.timeout(START_TIMEOUT_MS);
      late.addEventListener("abort", () => ending.abort(late.reason));
      const { text, result } = await answered;
      if (needsInstall(result.code)) return null;
      if (result.code === WORKER_CODES.fenced) throw fenced("start", text);
      const answer = result.code === 0 ? parseStart(text) : undefined;
      if (answer === undefined) throw workerFailed(`start the agent of ${run}`, result);
      return answer;
    },
    [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
  };
}

async function readAnswer(stream: Awaited<ReturnType<Transport["stream"]>>) {
  let text = "";
  for await (const line of stream.lines) {
    if (text.length < MAX_ANSWER) text += `${line.slice(0, MAX_ANSWER)}\n`;
  }
  return { text, result: await stream.result };
}
