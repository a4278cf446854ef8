import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { execa } from "execa";
import { z } from "zod";
import type { AlertConfig } from "../../config/config.ts";
import {
  resolveSecret,
  showReference,
  showWebhook,
  type SecretSources,
} from "../../config/secrets.ts";
import type { Env } from "../../config/env.ts";
import { requestJson } from "../../platform/http-client.ts";
import type { Incident } from "./incidents.ts";

const COMMAND_TIMEOUT_MS = 30_000;
const WEBHOOK_TIMEOUT_MS = 10_000;
const DESKTOP_TIMEOUT_MS = 5_000;

export interface SenderEffects extends SecretSources {
  readonly env: Env;
}

/** How one delivery went; `why` names no secret. */
export type Sent =
  | { readonly kind: "sent" }
  /** `again`: worth another try. */
  | {
      readonly kind: "failed";
      readonly why: string;
      readonly again: boolean;
      readonly afterMs?: number;
    };

/** What a way to tell people is called in logs. */
export function nameOf(alert: AlertConfig): string {
  if (alert.webhook !== undefined) return `webhook ${showWebhook(alert.webhook)}`;
  if (alert.command !== undefined) return `command ${showReference(`cmd:${alert.command}`)}`;
  return "desktop";
}

/** The message, as commands and webhooks get it. Fields are added, never renamed. */
export function messageOf(incident: Incident, fleetId: string): Readonly<Record<string, unknown>> {
  return {
    v: 1,
    incident: incident.key,
    kind: incident.kind,
    title: incident.title,
    hint: incident.hint,
    repo: incident.repo,
    run_id: incident.run_id,
    worker: incident.worker,
    at: incident.at,
    seq: incident.seq,
    fleet_id: fleetId,
  };
}

/** Tells one person or program of one incident. Rejects only with the signal's reason. */
export async function send(
  alert: AlertConfig,
  message: Readonly<Record<string, unknown>>,
  effects: SenderEffects,
  signal: AbortSignal,
): Promise<Sent> {
  if (alert.command !== undefined) return runCommand(alert.command, message, effects, signal);
  if (alert.webhook !== undefined) return post(alert.webhook, message, effects, signal);
  return show(message, effects, signal);
}

async function runCommand(
  command: string,
  message: Readonly<Record<string, unknown>>,
  effects: SenderEffects,
  signal: AbortSignal,
): Promise<Sent> {
  const input = `${JSON.stringify(message)}\n`;
  return run(["sh", "-c", command], COMMAND_TIMEOUT_MS, effects, signal, input);
}

async function show(
  message: Readonly<Record<string, unknown>>,
  effects: SenderEffects,
  signal: AbortSignal,
): Promise<Sent> {
  const program = await find("notify-send", effects.env.path);
  if (program === undefined)
    return { kind: "failed", why: "notify-send is not installed", again: false };
  const argv = [
    program,
    "--app-name",
    "Sprite Orchestrator",
    "--",
    textOf(message, "title"),
    textOf(message, "hint"),
  ];
  return run(argv, DESKTOP_TIMEOUT_MS, effects, signal, "");
}

/** In a process group of its own, which its deadline ends as a whole, and without the secrets of our environment. */
async function run(
  argv: readonly string[],
  timeoutMs: number,
  { env }: SenderEffects,
  signal: AbortSignal,
  input: string,
): Promise<Sent> {
  signal.throwIfAborted();
  const [program = "", ...args] = argv;
  const deadline = AbortSignal.timeout(timeoutMs);
  const child = execa(program, args, {
    input,
    env: plainEnvironment(env),
    extendEnv: false,
    cwd: "/",
    detached: true,
    reject: false,
    stdout: "ignore",
    stderr: "ignore",
  });
  const kill = () => killGroup(child.pid);
  const end = AbortSignal.any([deadline, signal]);
  end.addEventListener("abort", kill, { once: true });
  const result = await child.finally(() => end.removeEventListener("abort", kill));
  // What has ended well was told, whatever came at that moment.
  if (!result.failed) return { kind: "sent" };
  signal.throwIfAborted();
  if (deadline.aborted) {
    return { kind: "failed", why: `did not end within ${timeoutMs / 1_000} s`, again: true };
  }
  const why = result.exitCode === undefined ? "could not be run" : `ended with ${result.exitCode}`;
  return { kind: "failed", why, again: true };
}

const KEPT = [
  "LANG",
  "LC_ALL",
  "USER",
  "LOGNAME",
  "DISPLAY",
  "WAYLAND_DISPLAY",
  "XAUTHORITY",
  "DBUS_SESSION_BUS_ADDRESS",
  "XDG_RUNTIME_DIR",
];

function plainEnvironment(env: Env): Record<string, string> {
  const kept = KEPT.flatMap((name) => {
    const value = env.variable(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(kept), HOME: env.userHome, PATH: env.path };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group is gone already.
  }
}

async function post(
  webhook: string,
  message: Readonly<Record<string, unknown>>,
  effects: SenderEffects,
  signal: AbortSignal,
): Promise<Sent> {
  const url = await addressOf(webhook, effects);
  if (url === undefined) return { kind: "failed", why: "its URL cannot be read", again: false };
  const answer = await requestJson({
    method: "POST",
    url,
    json: message,
    timeoutMs: WEBHOOK_TIMEOUT_MS,
    body: z.unknown(),
    signal,
  });
  switch (answer.kind) {
    case "ok":
    case "malformed":
      return { kind: "sent" };
    case "unreachable":
      return { kind: "failed", why: answer.why, again: true };
    case "status": {
      const again = answer.status === 429 || answer.status >= 500;
      const after = answer.retryAfterMs === null ? {} : { afterMs: answer.retryAfterMs };
      return { kind: "failed", why: `answered ${answer.status}`, again, ...after };
    }
  }
}

async function addressOf(webhook: string, effects: SenderEffects): Promise<string | undefined> {
  if (/^https?:/.test(webhook)) return webhook;
  const url = await resolveSecret(webhook, effects).catch(() => undefined);
  const text = url?.reveal() ?? "";
  return /^https?:/.test(text) && URL.canParse(text) ? text : undefined;
}

async function find(program: string, path: string): Promise<string | undefined> {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, program);
    const isThere = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder.startsWith("/") && isThere) return file;
  }
  return undefined;
}

function textOf(message: Readonly<Record<string, unknown>>, key: string): string {
  const value = message[key];
  return typeof value === "string" ? value : "";
}
