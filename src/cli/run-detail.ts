import type { RunDetailView } from "../operations/views.ts";
import { cleanBlock, cleanLine } from "./clean.ts";
import { stateColour, type Palette } from "./colour.ts";
import { formatAge, formatMs, formatStatus, formatTime, plural } from "./format.ts";

/** A run as lines for people. */
export function describeRun(run: RunDetailView, now: number, palette: Palette): string[] {
  const label = (name: string) => palette.bold(name.padEnd(10));
  const lines = [
    `${label("run")}${run.run_id}`,
    `${label("task")}${cleanLine(run.task, 200)}`,
    `${label("state")}${stateColour(palette, run.state)(run.state)}${run.state_reason === null ? "" : `: ${cleanLine(run.state_reason)}`}`,
    `${label("agent")}${formatStatus(run.status)}`,
    `${label("worker")}${run.worker ?? "-"}${run.reason === null ? "" : ` (${cleanLine(run.reason)})`}`,
    `${label("runtime")}${run.runtime}, mode ${cleanLine(run.mode, 40)}, conversation ${run.runtime_session_id ?? "-"}`,
    `${label("asked")}${formatTime(run.created_at)} (${formatAge(now - run.created_at)} ago)`,
  ];
  if (run.branch !== null) lines.push(`${label("branch")}${cleanLine(run.branch)}`);
  if (run.resumes !== null) lines.push(`${label("follows")}${run.resumes}`);
  if (run.unrescued)
    lines.push(palette.red("its work could not be saved elsewhere: the worker is kept as it is"));
  return [
    ...lines,
    ...stepsOf(run, palette),
    ...messagesOf(run, palette),
    ...verifyOf(run, palette),
    ...reportOf(run, palette),
    ...watchOf(run),
  ];
}

function stepsOf(run: RunDetailView, palette: Palette): string[] {
  if (run.steps.length === 0) return [];
  return [
    palette.bold("steps"),
    ...run.steps.map((step) => {
      const time = step.ms === null ? "" : formatMs(step.ms);
      const detail = step.detail === null ? "" : `  ${cleanLine(step.detail, 200)}`;
      return `  ${step.step.padEnd(10)}${step.state.padEnd(9)}${time}${detail}`.trimEnd();
    }),
  ];
}

function messagesOf(run: RunDetailView, palette: Palette): string[] {
  return run.messages.flatMap((message) => [
    `${palette.bold(`message ${message.seq}`)}  ${message.receipt}, ${plural(message.bytes, "byte")}${message.form === null ? "" : ` ${message.form}`}`,
    `  ${cleanLine(message.text, 200)}`,
    ...(message.detail === null
      ? []
      : cleanBlock(message.detail)
          .split("\n")
          .map((line) => `  | ${line}`.trimEnd())),
  ]);
}

function verifyOf(run: RunDetailView, palette: Palette): string[] {
  return run.verify.flatMap((round) => {
    const code = round.exit_code === null ? "" : `, code ${round.exit_code}`;
    const time = round.ms === null ? "" : `, ${formatMs(round.ms)}`;
    const told = round.message_seq === null ? "" : `, told as message ${round.message_seq}`;
    return [
      `${palette.bold(`verify ${round.round}`)}  ${round.state}${code}${time}${told}`,
      `  ${cleanLine(round.command, 200)}`,
      ...round.tail.map((line) => `  | ${cleanLine(line, 300)}`.trimEnd()),
    ];
  });
}

function reportOf({ report }: RunDetailView, palette: Palette): string[] {
  if (report === null) return [];
  const lines = [palette.bold("report")];
  if (report.summary !== null)
    lines.push(
      ...cleanBlock(report.summary)
        .split("\n")
        .map((line) => `  ${line}`.trimEnd()),
    );
  for (const commit of report.commits)
    lines.push(`  ${commit.sha.slice(0, 10)} ${cleanLine(commit.subject, 100)}`);
  lines.push(
    `  ${plural(report.files_changed, "file")}, +${report.insertions} -${report.deletions}`,
  );
  if (report.duration_ms !== null) lines.push(`  ${formatMs(report.duration_ms)}`);
  if (report.input_tokens !== null && report.output_tokens !== null) {
    const cost = report.cost_usd === null ? "" : `, $${report.cost_usd.toFixed(2)}`;
    lines.push(`  ${report.input_tokens} tokens in, ${report.output_tokens} out${cost}`);
  }
  if (report.snapshot !== null) lines.push(`  saved as ${cleanLine(report.snapshot)}`);
  if (report.pushed !== null) lines.push(`  pushed: ${cleanLine(report.pushed)}`);
  for (const skipped of report.skipped) lines.push(`  not saved: ${cleanLine(skipped, 200)}`);
  return lines;
}

const watchOf = (run: RunDetailView): string[] =>
  run.attach === null ? [] : ["", `watch it with: ${cleanLine(run.attach)}`];
