import type { Migration } from "./migrations.ts";

/** Rounds of `verify`, limits of accounts, and pauses of pools. */
export const limits: Migration = {
  number: 2,
  name: "verify rounds, limits and pool pauses",
  sqlite: `
create table verify_rounds (
  run_id text not null references runs (run_id),
  round integer not null check (round > 0),
  launch integer not null check (launch > 0),
  tries integer not null check (tries > 0),
  command text not null,
  state text not null check (state in ('running', 'passed', 'failed')),
  exit_code integer,
  tail text not null,
  message_seq integer,
  started_at integer not null,
  ended_at integer,
  primary key (run_id, round)
) strict;
create unique index verify_rounds_of_launch on verify_rounds (run_id, launch);

create table limits (
  limit_id text primary key,
  account text not null,
  label text not null,
  kind text not null check (kind in ('usage_limit', 'rate_limit', 'overloaded', 'credential', 'billing')),
  state text not null check (state in ('limited', 'probing', 'lifted')),
  reason text not null,
  limited_until integer,
  check_at integer,
  secret_digest text,
  probe_run text references runs (run_id),
  probe_at integer,
  hits integer not null check (hits > 0),
  failures integer not null check (failures >= 0),
  created_at integer not null,
  hit_at integer not null,
  lifted_at integer,
  lifted_because text
) strict;
create unique index limits_open on limits (account) where state <> 'lifted';
create index limits_by_age on limits (account, created_at);

alter table runs add column limit_id text references limits (limit_id);
alter table runs add column secret_digest text;
create index runs_by_launch on runs (launched_at) where launched_at is not null;
create index runs_of_limit on runs (limit_id) where limit_id is not null;

create table setup_failures (
  repo text not null,
  worker_id text not null references workers (worker_id),
  signature text not null,
  reason text not null,
  at integer not null,
  primary key (repo, worker_id, signature)
) strict;

create table pool_pauses (
  pause_id text primary key,
  repo text not null,
  cause text not null check (cause in ('setup', 'operator')),
  reason text not null,
  signature text,
  base text,
  setup text,
  created_at integer not null,
  resumed_at integer,
  resumed_because text
) strict;
create unique index pool_pauses_open on pool_pauses (repo) where resumed_at is null;
`,
};
