import { ping, stop } from "./control.ts";
import { dispatchPlan, dispatchRun } from "./dispatch.ts";
import { eventsFollow, eventsRead } from "./events.ts";
import type { Operation } from "./operation.ts";
import { answerQuestion, interruptTurn } from "./person.ts";
import {
  runCancel,
  runDiff,
  runFollow,
  runList,
  runLogs,
  runResume,
  runRetry,
  runShow,
  runWait,
  sendMessage,
} from "./runs.ts";
import {
  status,
  workerAttach,
  workerBusy,
  workerCreate,
  workerDestroy,
  workerExec,
  workerList,
  workerSetup,
  workerShow,
} from "./workers.ts";

const ALL = [
  dispatchRun,
  dispatchPlan,
  runList,
  runShow,
  runWait,
  runDiff,
  runLogs,
  runFollow,
  runCancel,
  runRetry,
  runResume,
  sendMessage,
  answerQuestion,
  interruptTurn,
  workerList,
  workerShow,
  workerCreate,
  workerSetup,
  workerBusy,
  workerExec,
  workerAttach,
  workerDestroy,
  status,
  eventsRead,
  eventsFollow,
  ping,
  stop,
] as const;

/** Every operation by id. */
export const OPERATIONS: ReadonlyMap<string, Operation> = new Map(
  ALL.map((operation) => [operation.id, operation as unknown as Operation]),
);
