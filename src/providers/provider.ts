import type { ProviderState } from "../domain/worker.ts";

/*
 * A provider makes, finds, wakes and destroys workers. It opens no SSH connections: `dial` returns an address as data.
 *
 * An implementation guarantees:
 * - `list`, `watch` and `get` never wake a worker. A worker that cannot be looked at is `unreachable`; `gone` is said only on
 *   positive evidence, by id.
 * - `create` takes a name, the fleet's id and a nonce, and writes both as labels before the worker can be seen by
 *   `list`. A create whose answer was lost is found again by `list` and its nonce; it is never repeated blindly.
 *   A name that exists with another nonce is `name_taken`.
 * - `destroy(id)` destroys that id or nothing: a name that now belongs to another id is left alone. Destroying what is gone succeeds.
 * - Workers of another fleet are listed with their fleet id; nothing here changes them.
 * - Errors are `ProviderError`s with `retryable` and, when the service said so, `retryAfterMs`; or what the connection to the worker's machine
 *   said (`unreachable`, or `needs_person` for a host key that changed).
 */

export interface ProviderCapabilities {
  /** Workers sleep by themselves when unused. */
  readonly sleeps: boolean;
  readonly checkpoints: boolean;
  readonly awakeHolds: boolean;
  /** No sshd inside: SSH must be installed over another channel first. */
  readonly needsSshBootstrap: boolean;
  /** The machine belongs to somebody else too: ask before acting is the default mode. */
  readonly sharesMachine: boolean;
  /** Operators attach by running tmux on this machine, not through SSH. */
  readonly attachDirect: boolean;
}

export interface ProviderWorker {
  readonly id: string;
  readonly name: string;
  readonly fleetId: string | null;
  readonly nonce: string | null;
  readonly state: ProviderState;
  readonly createdAt: number | null;
}

export interface CreateRequest {
  readonly name: string;
  readonly fleetId: string;
  readonly nonce: string;
  /** OpenSSH public key line that may log in. */
  readonly authorizedKey: string;
}

/** Where to dial, as data: structurally a transport Address. */
export type ProviderAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly user: string }
  | {
      readonly kind: "sprite-proxy";
      readonly name: string;
      readonly port: number;
      readonly user: string;
    }
  | {
      readonly kind: "ssh-host";
      readonly name: string;
      readonly host: string;
      readonly port: number;
      readonly user: string;
    };

export interface Dial {
  readonly address: ProviderAddress;
  /** Host key fingerprint when the provider knows it first-hand (it made the key); null: learn at first bootstrap. */
  readonly hostKey: string | null;
}

export interface Provider {
  readonly id: string;
  readonly capabilities: ProviderCapabilities;
  list(prefix: string): Promise<ProviderWorker[]>;
  /** Null on positive evidence that it does not exist. */
  get(id: string): Promise<ProviderWorker | null>;
  create(request: CreateRequest): Promise<ProviderWorker>;
  destroy(id: string): Promise<void>;
  /** Wakes the worker if it sleeps, and says how to reach it. */
  dial(id: string): Promise<Dial>;
  /** How many more workers may exist; null: no limit known. */
  capacity(): Promise<number | null>;
  /** How an operator gets into the session; for providers whose workers can be attached to. */
  attachArgv?(id: string, session: string): Promise<OnTerminal>;
  /** Accepts a new host key that is shown on the way to the worker now, at a person's word. Gives the name of who showed it. */
  trustHostKey?(id: string, fingerprint: string): Promise<string>;
  /** argv and environment of a shell on the worker for an operator, in which `tmux attach` finds the worker's session. */
  consoleArgv?(id: string): Promise<OnTerminal>;
}

/** A program for the operator's own terminal, on this machine. */
export interface OnTerminal {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Runs on the worker; becomes one more argument of `argv`, quoted for the worker's shell. */
  readonly remote?: readonly string[];
}
