-- One Sostenuto store, schema version 2. Times are milliseconds since the epoch.
-- Tables are clustered on the id, so a workflow's steps (root:1, root:2, ...) lie
-- side by side: reading a branch is one range scan, writing a step dirties one page.

-- state: 0 pending, 1 resolved, 2 rejected, 3 rejected_canceled, 4 rejected_timedout
-- kind:  bit 1 has a target (and a task), 2 timer, 4 external: none of these is internal;
--        bit 8 has listeners; bit 16 internal, and not sure to end with the task above it
-- branch_len: length of the resonate:branch tag, always a prefix of the id
CREATE TABLE promises (
  id         TEXT PRIMARY KEY NOT NULL,
  state      INTEGER NOT NULL,
  kind       INTEGER NOT NULL,
  timeout_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  settled_at INTEGER,
  branch_len INTEGER NOT NULL,
  tags       TEXT NOT NULL,
  param      TEXT,
  value      TEXT
) STRICT, WITHOUT ROWID;
-- For searches alone: an expression, so that no other statement is led away by it from the
-- index made for it.
CREATE INDEX promises_by_state ON promises (state + 0, id);
CREATE INDEX promises_due ON promises (timeout_at) WHERE state = 0 AND kind & 7;
CREATE INDEX roots_created ON promises (created_at) WHERE instr(id, ':') = 0;
CREATE INDEX roots_settled ON promises (settled_at) WHERE state <> 0 AND instr(id, ':') = 0;
CREATE INDEX promises_lapsing ON promises (timeout_at) WHERE state = 0 AND kind & 16;

-- The tags that are a user's own (not resonate:*), for searches.
CREATE TABLE labels (
  name       TEXT NOT NULL,
  content    TEXT NOT NULL,
  promise_id TEXT NOT NULL,
  PRIMARY KEY (name, content, promise_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_promise ON labels (promise_id);

-- state: 0 pending, 1 acquired, 2 suspended, 3 halted, 4 fulfilled
-- due_at: end of the lease when acquired, next time to send again when pending
-- timeout_at: the deadline of its promise, from which it reads as fulfilled
-- member: the living connection that holds the task or was handed its message
-- releases: releases in a row without progress
CREATE TABLE tasks (
  id       TEXT PRIMARY KEY NOT NULL,
  state    INTEGER NOT NULL,
  version  INTEGER NOT NULL,
  timeout_at INTEGER NOT NULL,
  target   TEXT NOT NULL,
  pid      TEXT,
  ttl      INTEGER,
  due_at   INTEGER,
  member   INTEGER,
  releases INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_member ON tasks (member) WHERE member IS NOT NULL;
CREATE INDEX tasks_by_state ON tasks (state, id);
CREATE INDEX tasks_troubled ON tasks (releases) WHERE state <> 4 AND releases > 0;

CREATE TABLE resumes (
  task_id    TEXT NOT NULL,
  awaited_id TEXT NOT NULL,
  PRIMARY KEY (task_id, awaited_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE callbacks (
  awaited_id TEXT NOT NULL,
  awaiter_id TEXT NOT NULL,
  PRIMARY KEY (awaited_id, awaiter_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX callbacks_awaiter ON callbacks (awaiter_id);

CREATE TABLE listeners (
  awaited_id TEXT NOT NULL,
  address    TEXT NOT NULL,
  PRIMARY KEY (awaited_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
  id              TEXT PRIMARY KEY NOT NULL,
  cron            TEXT NOT NULL,
  promise_id      TEXT NOT NULL,
  promise_timeout INTEGER NOT NULL,
  promise_param   TEXT,
  promise_tags    TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  next_run_at     INTEGER NOT NULL,
  last_run_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_due ON schedules (next_run_at);

-- Messages nobody could be handed at once. task_id is set for an execute,
-- promise_id for an unblock; member is whom the message is meant for.
CREATE TABLE outbox (
  seq        INTEGER PRIMARY KEY,
  address    TEXT NOT NULL,
  task_id    TEXT UNIQUE,
  version    INTEGER,
  promise_id TEXT,
  member     INTEGER,
  ready_at   INTEGER NOT NULL,
  UNIQUE (promise_id, address)
) STRICT;
CREATE INDEX outbox_address ON outbox (address, seq);
CREATE INDEX outbox_member ON outbox (member) WHERE member IS NOT NULL;

-- The connections that are open now; each holds a lock the system gives up for it.
CREATE TABLE members (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  pid       TEXT NOT NULL,
  os_pid    INTEGER NOT NULL,
  unicast   TEXT NOT NULL,
  anycast   TEXT NOT NULL,
  listening INTEGER NOT NULL,
  opened_at INTEGER NOT NULL
) STRICT;
