import { checkFleet } from "./check.ts";
import { ping, stop } from "./control.ts";
import { dispatchPlan, dispatchRun } from "./dispatch.ts";
import { eventsFollow, eventsRead } from "./events.ts";
import { limitClear, limitList } from "./limits.ts";
import type { Operation } from "./operation.ts";
import { poolList, poolPause, poolResume } from "./pools.ts";
import { answerQuestion, interruptTurn } from "./person.ts";
import {
  runCancel,
  runDiff,
  runFollow,
  runList,
  runLogs,
  runRecover,
  runResume,
  runRetry,
  runShow,
  runSnapshots,
  runWait,
  sendMessage,
} from "./runs.ts";
import {
  workerAdopt,
  workerCordon,
  workerDrain,
  workerRescue,
  workerReset,
  workerUncordon,
} from "./worker-care.ts";
import {
  status,
  workerAttach,
  workerBusy,
  workerConsole,
  workerCreate,
  workerDestroy,
  workerTrust,
  workerExec,
  workerHistoryRead,
  workerList,
  workerSend,
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
  runSnapshots,
  runRecover,
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
  workerConsole,
  workerSend,
  workerHistoryRead,
  workerCordon,
  workerUncordon,
  workerDrain,
  workerReset,
  workerRescue,
  workerAdopt,
  workerDestroy,
  workerTrust,
  checkFleet,
  limitList,
  limitClear,
  poolList,
  poolPause,
  poolResume,
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
