import { OrchestratorError } from "../domain/errors.ts";
import type { ExecStream, Transport } from "../transport/transport.ts";
import { installBundle, needsInstall, workerArgv, workerFailed, type Bundle } from "./bundle.ts";
import type { Follow, FollowedLine } from "./provisioner.ts";

/** Lines are under 4,000 bytes; of a longer one so much is kept, and it will not parse. */
const MAX_LINE_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

interface Opened {
  readonly stream: ExecStream;
  readonly chunks: AsyncIterator<Uint8Array>;
  readonly file: string;
  readonly start: number;
  /** What came after the header in the same chunk. */
  readonly rest: Uint8Array;
}

/**
 * Follows a run's events.jsonl from `offset` when the worker still has that file, else from its beginning. Offsets are bytes.
 * `lines` throws `TransportError` when the connection is lost, and ends when the signal aborts, when it is disposed of, or when
 * the worker has another file by that name: follow again then. A last line without its newline is not given out. The script on the
 * worker ends now and then by itself, and is started again here.
 */
export async function follow(
  transport: Transport,
  bundle: Bundle,
  input: {
    readonly run: string;
    readonly file: string | null;
    readonly offset: number;
    readonly signal: AbortSignal;
  },
): Promise<Follow> {
  const { run, signal } = input;
  let closed = false;
  const start = async (file: string | null, offset: number): Promise<Opened> => {
    const argv = workerArgv("follow", [run, file ?? "-", String(offset)]);
    const first = await open(transport, argv, signal);
    if (first !== undefined) return first;
    await installBundle(transport, bundle);
    const second = await open(transport, argv, signal);
    if (second !== undefined) return second;
    throw new OrchestratorError("internal", `the worker has no script to follow ${run}`);
  };
  let opened = await start(input.file, input.offset);
  const { file } = opened;
  async function* lines(): AsyncGenerator<FollowedLine> {
    let place = opened.start;
    try {
      for (;;) {
        for await (const line of splitEvents(opened)) {
          place = line.offset;
          yield line;
        }
        if (closed || signal.aborted) return;
        opened = await start(file, place);
        if (opened.file !== file || opened.start !== place) return;
      }
    } catch (error) {
      if (!closed && !signal.aborted) throw error;
    } finally {
      opened.stream.close();
    }
  }
  return {
    file,
    lines: lines(),
    [Symbol.asyncDispose]: async () => {
      closed = true;
      opened.stream.close();
    },
  };
}

/** Undefined where the script is not there: install and try again. */
async function open(
  transport: Transport,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<Opened | undefined> {
  const stream = await transport.stream(argv, { signal });
  try {
    const chunks = stream.bytes[Symbol.asyncIterator]();
    let head = Buffer.alloc(0);
    for (;;) {
      const end = head.indexOf(NEWLINE);
      const match = end < 0 ? null : HEADER.exec(head.toString("latin1", 0, end));
      const [, file, start] = match ?? [];
      if (file !== undefined && start !== undefined) {
        return { stream, chunks, file, start: Number(start), rest: head.subarray(end + 1) };
      }
      const next = end < 0 && head.length < 1_000 ? await chunks.next() : undefined;
      if (next === undefined || next.done === true) break;
      head = Buffer.concat([head, next.value]);
    }
    const result = await stream.result;
    if (needsInstall(result.code)) return undefined;
    throw workerFailed("follow the run's events", result);
  } catch (error) {
    stream.close();
    throw error;
  }
}

const HEADER = /^file\t(\d+:\d+)\t(\d{1,15})$/;

/** Splits bytes at newlines; ends with the stream. */
async function* splitEvents(opened: Opened): AsyncGenerator<FollowedLine> {
  let offset = opened.start;
  let kept: Uint8Array[] = [];
  let keptBytes = 0;
  let lineBytes = 0;
  const keep = (part: Uint8Array) => {
    lineBytes += part.length;
    const room = part.subarray(0, MAX_LINE_BYTES - keptBytes);
    if (room.length === 0) return;
    kept.push(room);
    keptBytes += room.length;
  };
  let chunk = opened.rest;
  for (;;) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      keep(chunk.subarray(from, end));
      from = end + 1;
      offset += lineBytes + 1;
      const text = Buffer.concat(kept).toString("utf8");
      [kept, keptBytes, lineBytes] = [[], 0, 0];
      yield { text, offset };
    }
    keep(chunk.subarray(from));
    const next = await opened.chunks.next();
    if (next.done === true) return;
    chunk = next.value;
  }
}
