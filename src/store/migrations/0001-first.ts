import type { Migration } from "./migrations.ts";

/** What is frozen here never changes; a later change of a table is a later migration. */
export const first: Migration = {
  number: 1,
  name: "first tables",
  sqlite: `
create table events (
  seq integer primary key check (seq > 0),
  at integer not null,
  kind text not null,
  repo text,
  task_id text,
  run_id text,
  worker_id text,
  payload text not null,
  prev_hash text not null check (length(prev_hash) = 64),
  hash text not null check (length(hash) = 64)
) strict;
create index events_of_run on events (run_id, seq) where run_id is not null;
create index events_of_task on events (task_id, seq) where task_id is not null;
create index events_of_worker on events (worker_id, seq) where worker_id is not null;

create table cursors (
  name text primary key,
  seq integer not null check (seq >= 0),
  updated_at integer not null
) strict;

create table requests (
  request_id text primary key,
  operation text not null,
  body_hash text not null,
  response text not null,
  at integer not null
) strict;

create table tasks (
  task_id text primary key,
  repo text not null,
  title text not null,
  body text not null,
  state text not null check (state in ('open', 'claimed', 'blocked', 'handoff_pending', 'review_ready',
    'in_review', 'done', 'cancelled', 'dead_letter')),
  reason text,
  review text not null check (review in ('none', 'wanted')),
  attempts integer not null check (attempts >= 0),
  max_attempts integer not null check (max_attempts >= 0),
  cancel_requested integer not null check (cancel_requested in (0, 1)),
  created_at integer not null,
  updated_at integer not null
) strict;
create index tasks_of_repo on tasks (repo, state);

create table workers (
  worker_id text primary key,
  repo text not null,
  number integer not null check (number > 0),
  name text not null,
  provider text not null,
  provider_id text,
  nonce text not null unique,
  allocation text not null check (allocation in ('creating', 'preparing', 'unready', 'free', 'claimed',
    'destroying', 'destroyed')),
  reason text,
  cordoned integer not null check (cordoned in (0, 1)),
  draining integer not null check (draining in (0, 1)),
  epoch integer not null check (epoch >= 0),
  provider_state text check (provider_state in ('running', 'warm', 'cold', 'unreachable', 'gone')),
  provider_state_at integer,
  address text,
  host_key text,
  boot_id text,
  busy_until integer,
  busy_reason text,
  saved_fingerprint text,
  last_run_id text,
  created_at integer not null,
  updated_at integer not null
) strict;
create unique index workers_number on workers (repo, number) where allocation <> 'destroyed';
create unique index workers_name on workers (name) where allocation <> 'destroyed';

create table runs (
  run_id text primary key,
  task_id text not null references tasks (task_id),
  repo text not null,
  state text not null check (state in ('queued', 'driving', 'launched', 'active', 'blocked', 'cancelling',
    'finishing', 'completed', 'failed', 'cancelled', 'abandoned')),
  reason text,
  outcome text check (outcome in ('completed', 'failed', 'cancelled', 'abandoned')),
  worker_id text references workers (worker_id),
  epoch integer,
  allocation_reason text,
  wanted_worker text,
  runtime text not null,
  mode text not null,
  runtime_session_id text,
  resumes text references runs (run_id),
  launch integer not null check (launch >= 0),
  launched_at integer,
  branch text,
  base_commit text,
  place text,
  head_commit text,
  evidence text,
  follow_generation text,
  follow_offset integer not null check (follow_offset >= 0),
  report text,
  unrescued integer not null check (unrescued in (0, 1)),
  request_id text,
  request text not null,
  created_at integer not null,
  updated_at integer not null,
  started_at integer,
  finished_at integer,
  not_before integer
) strict;
create unique index runs_live_worker on runs (worker_id)
  where worker_id is not null and state not in ('completed', 'failed', 'cancelled', 'abandoned');
create index runs_live on runs (repo, state, created_at)
  where state not in ('completed', 'failed', 'cancelled', 'abandoned');
create index runs_of_task on runs (task_id);
create index runs_of_worker on runs (worker_id) where worker_id is not null;
create index runs_by_age on runs (created_at);

create table steps (
  run_id text not null references runs (run_id),
  attempt integer not null check (attempt > 0),
  step text not null,
  state text not null check (state in ('running', 'done', 'skipped', 'failed')),
  exit_code integer,
  detail text,
  started_at integer not null,
  ended_at integer,
  primary key (run_id, attempt, step)
) strict;

create table messages (
  run_id text not null references runs (run_id),
  seq integer not null check (seq > 0),
  body text not null,
  sent_hash text,
  sent_bytes integer,
  form text check (form in ('exact', 'prefixed', 'file')),
  launch integer,
  receipt text not null check (receipt in ('accepted', 'queued', 'blocked', 'typed_only', 'refused', 'unknown')),
  detail text,
  created_at integer not null,
  confirmed_at integer,
  primary key (run_id, seq)
) strict;
`,
};
