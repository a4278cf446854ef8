import { z } from "zod";
import { asRunId } from "../domain/ids.ts";
import { MAX_MESSAGE_BYTES } from "../domain/message.ts";
import { MAX_NAME_LENGTH } from "../domain/names.ts";

const NAME = /^[a-z0-9][a-z0-9-]*$/;

export const repoName = z
  .string()
  .max(MAX_NAME_LENGTH, `at most ${MAX_NAME_LENGTH} characters`)
  .regex(NAME, "lower-case letters, digits and dashes, starting with a letter or digit");

export const workerNameInput = z
  .string()
  .max(MAX_NAME_LENGTH + 7)
  .regex(/^[a-z0-9][a-z0-9-]*-[1-9][0-9]{0,5}$/, "a worker's name such as kite-1");

export const runIdInput = z
  .string()
  .max(40)
  .regex(NAME, "a run's id such as run-7k3m9x2q0abc")
  .transform(asRunId);

export const requestId = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[\x21-\x7e]+$/, "printable characters without blanks");

/** What git takes for a branch, and no option, ref or path. */
export const branchName = z
  .string()
  .max(200)
  .regex(
    /^(?!refs\/)(?![-/.])(?!.*(\.\.|\/\/|\/\.|@\{|\.lock(\/|$)|[/.]$))(?!HEAD$|@$)[^\p{Cc}\s~^:?*[\\]+$/u,
    "a branch name",
  );

/** A task or follow-up: at least one visible character, at most 4 MiB, no NUL, valid Unicode. */
export const taskText = z
  .string()
  .refine((text) => text.trim() !== "", "the task is empty")
  .refine((text) => !text.includes("\0"), "the task contains a NUL character")
  .refine((text) => text.isWellFormed(), "the task is not valid Unicode")
  .refine(
    (text) => Buffer.byteLength(text) <= MAX_MESSAGE_BYTES,
    `the task is larger than ${MAX_MESSAGE_BYTES / 1024 / 1024} MiB`,
  );
