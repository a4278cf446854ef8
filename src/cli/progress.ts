import type { EventView } from "../operations/views.ts";
import { cleanBlock, cleanLine } from "./clean.ts";
import { paletteOf, type Palette } from "./colour.ts";
import type { Context } from "./context.ts";
import { formatMs, plural } from "./format.ts";
import { printJson, printLine, type Io } from "./io.ts";

/** Shows a run's events while they happen. */
export interface Progress {
  show(event: EventView): void;
  /** Lets go of the terminal. */
  end(): void;
}

/** What turns on a terminal while a step runs; made by spinner.ts. */
export interface Spinner {
  start(text: string): void;
  stop(): void;
}

/** JSON lines, a spinner on a terminal, or plain lines. */
export async function openProgress(context: Context, asJson: boolean): Promise<Progress> {
  const { io, env } = context;
  if (asJson) return { show: (event) => printJson(io, { event }), end() {} };
  const turns = io.isTerminal && env.term !== undefined && !env.ci;
  const spinner = turns ? (await import("./spinner.ts")).openSpinner() : undefined;
  return linesOf(io, spinner);
}

function linesOf(io: Io, spinner: Spinner | undefined): Progress {
  const palette = paletteOf(io);
  return {
    show(event) {
      const lines = describeEvent(event, palette);
      if (lines.length > 0) spinner?.stop();
      for (const line of lines) printLine(io, line);
      const waitingFor = whatGoesOn(event);
      if (waitingFor !== undefined) spinner?.start(waitingFor);
    },
    end: () => spinner?.stop(),
  };
}

/** What is under way after this event, for the spinner. */
export function whatGoesOn({ kind, payload }: EventView): string | undefined {
  switch (kind) {
    case "run.step":
      return payload["state"] === "running" ? word(payload["step"]) : undefined;
    case "worker.creating":
      return `creating ${word(payload["worker"])}`;
    case "run.assigned":
      return `preparing ${word(payload["worker"])}`;
    case "run.launched":
      return "waiting for proof that the agent has the task";
    case "run.verifying":
      return `verifying: ${word(payload["command"])}`;
    case "run.finishing":
      return "saving the work";
    default:
      return undefined;
  }
}

/** An event as lines for people; none when it is of no interest to them. Foreign text is cleaned. */
export function describeEvent({ kind, payload }: EventView, palette: Palette): string[] {
  switch (kind) {
    case "run.assigned": {
      const created = payload["created"] === true ? " (new)" : "";
      return [
        `${palette.bold("worker")}    ${word(payload["worker"])}${created}: ${word(payload["reason"])}`,
      ];
    }
    case "run.requeued":
      return [palette.yellow(`back in the queue: ${word(payload["reason"])}`)];
    case "run.step":
      return describeStep(payload, palette);
    case "run.launched":
      return [`${palette.bold("launched")}  conversation ${word(payload["runtime_session_id"])}`];
    case "run.delivered":
      return [palette.green(`delivered ${describeReceipt(payload)}`)];
    case "run.status":
      return [
        `${palette.bold("status")}    ${word(payload["status"])}: ${word(payload["reason"])} ${palette.dim(`(${word(payload["source"])})`)}`,
      ];
    case "run.blocked":
      return [
        palette.yellow(`blocked   ${word(payload["reason"])}`),
        ...screenOf(payload["screen"], palette),
      ];
    case "run.verifying":
      return [`${palette.bold("verifying")} ${word(payload["command"])}`];
    case "run.verified":
      return [palette.green(`verified  ${timeOf(payload)}`)];
    case "run.verify_failed":
      return describeFailedRound(payload, palette);
    case "run.finishing":
      return [
        `${palette.bold("ending")}    ${word(payload["outcome"])}${after(payload["reason"])}`,
      ];
    case "run.finished":
    case "run.completed":
    case "run.failed":
    case "run.cancelled":
    case "run.abandoned":
      return describeEnd(word(payload["state"] ?? kind.slice("run.".length)), payload, palette);
    default:
      return [];
  }
}

function describeStep(payload: Payload, palette: Palette): string[] {
  const step = word(payload["step"]).padEnd(8);
  const time = typeof payload["ms"] === "number" ? formatMs(payload["ms"]) : "";
  const detail = word(payload["detail"]);
  const more = detail === "" ? "" : `: ${detail}`;
  switch (payload["state"]) {
    case "done":
      return [`  ${palette.green("ok")}      ${step}  ${palette.dim(time)}`];
    case "skipped":
      return [`  ${palette.dim(`skipped ${step}${more === "" ? "" : `  ${detail}`}`)}`];
    case "failed":
      return [`  ${palette.red("failed")}  ${step}  ${time}${more}`];
    default:
      return [];
  }
}

function describeFailedRound(payload: Payload, palette: Palette): string[] {
  const tail = Array.isArray(payload["tail"]) ? payload["tail"].slice(-5).map(word) : [];
  const next =
    payload["seq"] == null
      ? "no rounds left"
      : `the agent is told (${plural(Number(payload["rounds_left"]), "round")} left)`;
  return [
    palette.yellow(
      `not verified: code ${word(payload["code"]) || "unknown"}, ${timeOf(payload)}; ${next}`,
    ),
    ...tail.map((line) => `  ${line}`.trimEnd()),
  ];
}

const timeOf = ({ ms }: Payload): string => (typeof ms === "number" ? `after ${formatMs(ms)}` : "");

function describeReceipt(payload: Payload): string {
  const bytes = payload["bytes"];
  const size =
    typeof bytes === "number" ? `, ${plural(bytes, "byte")} ${word(payload["form"])}` : "";
  const time = typeof payload["ms"] === "number" ? `, after ${formatMs(payload["ms"])}` : "";
  return `${word(payload["receipt"])}${size}${time}`;
}

function describeEnd(state: string, payload: Payload, palette: Palette): string[] {
  const paint = state === "completed" ? palette.green : palette.red;
  const lines = [paint(`${state}${after(payload["reason"])}`)];
  const summary = payload["summary"];
  if (typeof summary === "string" && summary.trim() !== "") lines.push("", indent(summary, 40), "");
  const facts = [
    count(listLength(payload["commits"]), "commit"),
    count(payload["files_changed"], "file"),
    changed(payload),
    duration(payload["duration_ms"]),
    tokens(payload),
    cost(payload["cost_usd"]),
  ].filter((fact) => fact !== "");
  if (facts.length > 0) lines.push(palette.dim(facts.join(", ")));
  if (payload["unrescued"] === true) {
    lines.push(
      palette.red(
        "the work on the worker could not be saved elsewhere: the worker is kept as it is",
      ),
    );
  }
  return lines;
}

type Payload = EventView["payload"];

/** One clean line, whatever it is. */
function word(value: unknown): string {
  if (typeof value === "string") return cleanLine(value, 300);
  return typeof value === "number" || typeof value === "boolean" ? String(value) : "";
}

function after(reason: unknown): string {
  const text = word(reason);
  return text === "" ? "" : `: ${text}`;
}

function screenOf(screen: unknown, palette: Palette): string[] {
  if (typeof screen !== "string" || screen.trim() === "") return [];
  return [palette.dim("the agent's screen:"), indent(screen, 40)];
}

function indent(text: string, maxLines: number): string {
  const lines = cleanBlock(text).split("\n");
  const shown = lines.slice(0, maxLines).map((line) => `  ${line}`.trimEnd());
  return [...shown, ...(lines.length > maxLines ? ["  …"] : [])].join("\n");
}

const listLength = (value: unknown): unknown => (Array.isArray(value) ? value.length : value);

const count = (value: unknown, one: string): string =>
  typeof value === "number" ? plural(value, one) : "";

function changed(payload: Payload): string {
  const { insertions, deletions } = payload;
  return typeof insertions === "number" && typeof deletions === "number"
    ? `+${insertions} -${deletions}`
    : "";
}

const duration = (value: unknown): string => (typeof value === "number" ? formatMs(value) : "");

function tokens(payload: Payload): string {
  const { input_tokens: input, output_tokens: output } = payload;
  return typeof input === "number" && typeof output === "number"
    ? `${input} tokens in, ${output} out`
    : "";
}

const cost = (value: unknown): string => (typeof value === "number" ? `$${value.toFixed(2)}` : "");
