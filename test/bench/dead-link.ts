import { userInfo } from "node:os";
import { openSshTransport } from "../../src/transport/ssh.ts";
import { startTcpProxy } from "../fakes/tcp-proxy.ts";
import { localWorkers } from "../support/local-workers.ts";
import { median, series } from "./measure.ts";
import type { Findings } from "./report.ts";

/** Keepalive intervals, ms: the last is what the controller uses while a run is live. */
const INTERVALS = [200, 500, 1_000, 5_000] as const;
const MISSED = 3;
const SLACK_MS = 500;

/** P13: a link that goes silent without a word, until the call that waits on it has failed. */
export async function deadLink(rounds: number): Promise<Findings> {
  await using fleet = await localWorkers();
  const { dial } = await fleet.start("silent-1");
  const readings = INTERVALS.map((keepaliveMs) => ({
    keepaliveMs,
    series: series(`keepalive ${keepaliveMs} ms: silence -> error`),
  }));
  for (let round = 0; round < rounds; round += 1) {
    // At the same time: they wait, and do not compute.
    await Promise.all(
      readings.map(async ({ keepaliveMs, series: { samples } }) => {
        await using proxy = await startTcpProxy(dial.address.port);
        await using transport = openSshTransport({
          address: { kind: "tcp", host: "127.0.0.1", port: proxy.port, user: userInfo().username },
          privateKey: fleet.keys.privateKey,
          hostKey: dial.hostKey,
          connectTimeoutMs: 10_000,
          keepaliveMs,
          maxChannels: 4,
          execTimeoutMs: 120_000,
        });
        await transport.exec(["true"]);
        const waiting = transport.exec(["sleep", "600"]).then(
          () => "ended",
          () => "failed",
        );
        const began = performance.now();
        proxy.swallow = "both";
        if ((await waiting) !== "failed") throw new Error("the call on a dead link ended well");
        samples.push(performance.now() - began);
      }),
    );
  }
  return {
    series: readings.map((reading) => reading.series),
    goals: readings.map(({ keepaliveMs, series: { samples } }) => ({
      id: "P13",
      what: `silence noticed, keepalive ${keepaliveMs} ms`,
      value: median(samples),
      limit: keepaliveMs * (MISSED + 1) + SLACK_MS,
      better: "at most",
      unit: "ms",
    })),
  };
}
