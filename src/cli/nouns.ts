import type { CommandSpec } from "./spec.ts";

/** A first word of the command line, with the file that holds its commands: only the one that was named is loaded. */
export interface Noun {
  readonly name: string;
  readonly summary: string;
  readonly hidden?: true;
  load(): Promise<readonly CommandSpec[]>;
}

export const NOUNS: readonly Noun[] = [
  {
    name: "dispatch",
    summary: "give a task to the next idle worker of a pool (also without the word 'dispatch')",
    load: async () => (await import("./dispatch.ts")).commands,
  },
  {
    name: "send",
    summary: "send a follow-up to an agent",
    load: async () => (await import("./send.ts")).commands,
  },
  {
    name: "answer",
    summary: "answer the question an agent asks, as the operator",
    load: async () => (await import("./person.ts")).commands,
  },
  {
    name: "interrupt",
    summary: "stop an agent's turn",
    load: async () => (await import("./person.ts")).commands,
  },
  {
    name: "status",
    summary: "status of the fleet, a pool, a worker or a run",
    load: async () => (await import("./status.ts")).commands,
  },
  {
    name: "watch",
    summary: "watch the fleet as it changes",
    load: async () => (await import("./watch.ts")).commands,
  },
  {
    name: "run",
    summary: "list, show, diff, logs, recover, wait, cancel, retry, resume",
    load: async () => (await import("./run.ts")).commands,
  },
  {
    name: "worker",
    summary:
      "list, show, allocate, create, setup, busy, exec, send, logs, history, attach, cordon, drain, reset, rescue, adopt, destroy",
    load: async () => [
      ...(await import("./worker.ts")).commands,
      ...(await import("./worker-use.ts")).commands,
      ...(await import("./worker-care.ts")).commands,
    ],
  },
  {
    name: "exec",
    summary: "run a program on a worker: exec -s kite-1 -- PROGRAM",
    load: async () => (await import("./worker-use.ts")).topCommands,
  },
  {
    name: "console",
    summary: "put your terminal into a shell on a worker",
    load: async () => (await import("./worker-use.ts")).topCommands,
  },
  {
    name: "attach",
    summary: "put your terminal into a worker's tmux",
    load: async () => (await import("./attach.ts")).commands,
  },
  {
    name: "check",
    summary: "compare window names with the derived status, and log changes",
    load: async () => (await import("./check.ts")).commands,
  },
  {
    name: "cron",
    summary: "install, remove, status: the check every 30 minutes",
    load: async () => (await import("./cron.ts")).commands,
  },
  {
    name: "events",
    summary: "read or follow the event log",
    load: async () => (await import("./events.ts")).commands,
  },
  {
    name: "init",
    summary: "write the configuration: a first repo, where workers run, how the agent logs in",
    load: async () => (await import("./init.ts")).commands,
  },
  {
    name: "doctor",
    summary: "look at every prerequisite, and prove that it works",
    load: async () => (await import("./doctor.ts")).commands,
  },
  {
    name: "doctor-trial",
    summary: "the proof of doctor, in a process of its own",
    hidden: true,
    load: async () => (await import("./doctor.ts")).commands,
  },
  {
    name: "repo",
    summary: "add, list, remove",
    load: async () => (await import("./repo.ts")).commands,
  },
  {
    name: "pool",
    summary: "list, pause, resume",
    load: async () => (await import("./pool.ts")).commands,
  },
  {
    name: "limit",
    summary: "list and clear what keeps the agents' accounts from working",
    load: async () => (await import("./limit.ts")).commands,
  },
  {
    name: "config",
    summary: "show, schema, reference",
    load: async () => (await import("./config.ts")).commands,
  },
  {
    name: "serve",
    summary: "run the controller in the foreground",
    load: async () => (await import("./control.ts")).commands,
  },
  {
    name: "stop",
    summary: "stop the controller; agents go on",
    load: async () => (await import("./control.ts")).commands,
  },
  {
    name: "ping",
    summary: "ask whether the controller answers",
    load: async () => (await import("./control.ts")).commands,
  },
  {
    name: "completion",
    summary: "completion script for bash, zsh or fish",
    load: async () => (await import("./completion.ts")).commands,
  },
  {
    name: "complete-words",
    summary: "what may come next on a command line",
    hidden: true,
    load: async () => (await import("./completion.ts")).commands,
  },
];
