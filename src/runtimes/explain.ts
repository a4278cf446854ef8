import { cleanText } from "../domain/text.ts";
import type { Evidence } from "./evidence.ts";
import type { StatusContext } from "./status-context.ts";

const age = (now: number, at: number) => `${(Math.max(0, now - at) / 1_000).toFixed(1)} s ago`;

/** Every reading a verdict could look at, one line each, for `--explain`. */
export function explainReadings(evidence: Evidence, context: StatusContext): string[] {
  const { now } = context;
  const { turn, registry, process, tmux } = evidence;
  const lines = [`run: ${context.runState}, launch ${evidence.launch}`];
  if (context.launch !== undefined && context.launch > evidence.launch)
    lines.push(`launch ${context.launch} intended, evidence is of launch ${evidence.launch}`);
  if (turn === null) lines.push("hook: none");
  else {
    const { phase, detail, background } = turn.value;
    const more = background > 0 ? `, ${background} in the background` : "";
    const what = detail === "" ? phase : `${phase} (${detail})`;
    lines.push(`hook: ${what}${more}, ${age(now, turn.at)}`);
  }
  if (registry === null) lines.push("registry: none");
  else {
    const { status, waitingFor, settled } = registry.value;
    const what = waitingFor === null ? status : `${status} (${waitingFor})`;
    lines.push(`registry: ${what}${settled ? ", settled" : ""}, ${age(now, registry.at)}`);
  }
  if (process === null) lines.push("process: none");
  else {
    const { alive, pid, exitCode, signal } = process.value;
    const end = signal === null ? (exitCode === null ? "" : `, exit ${exitCode}`) : `, ${signal}`;
    lines.push(`process: ${alive ? "alive" : "dead"} ${pid ?? ""}${end}, ${age(now, process.at)}`);
  }
  if (tmux !== null) {
    const name = cleanText(tmux.value.windowName ?? "no window", 80);
    lines.push(`tmux: ${name}, ${tmux.value.attached} attached, ${age(now, tmux.at)}`);
  }
  if (evidence.foreignTurn) lines.push("the last prompt was not one of ours");
  if (context.provider !== undefined) lines.push(`provider: ${context.provider}`);
  if (context.connection !== undefined) lines.push(`connection: ${context.connection}`);
  lines.push(
    evidence.lastAt === null ? "last line: none" : `last line: ${age(now, evidence.lastAt)}`,
  );
  return lines;
}
