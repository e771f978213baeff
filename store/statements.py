"""Every SQL statement of the store, named; tests check their query plans.

Statements of one transaction are short and touch few pages: looking up by id, by
deadline, by waiter or by address. Whatever scans (search, listing) pages by id.
"""

from __future__ import annotations

from typing import Final

from store.records import PROMISE_COLUMNS

# -- transactions -------------------------------------------------------------
BEGIN_WRITE: Final = "BEGIN IMMEDIATE"
BEGIN_READ: Final = "BEGIN"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
DATA_VERSION: Final = "PRAGMA data_version"

# -- promises -----------------------------------------------------------------
PROMISE_GET: Final = f"SELECT {PROMISE_COLUMNS} FROM promises WHERE id = ?"  # noqa: S608  # constants only
PROMISE_INSERT: Final = (
    f"INSERT INTO promises ({PROMISE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?) "  # noqa: S608  # constants only
    "ON CONFLICT (id) DO NOTHING"
)
LABEL_ADD: Final = "INSERT OR IGNORE INTO labels (name, content, promise_id) VALUES (?, ?, ?)"
PROMISE_SETTLE: Final = "UPDATE promises SET state = ?, value = ?, settled_at = ? WHERE id = ?"
#: Same-branch promises other than one: those under the branch, and the branch itself.
BRANCH: Final = (
    f"SELECT {PROMISE_COLUMNS} FROM promises "  # noqa: S608  # constants only
    "WHERE id > ? AND id < ? AND branch_len = ? AND id <> ?"
)
PROMISES_DUE: Final = (
    "SELECT id FROM promises WHERE state = 0 AND kind & 7 AND timeout_at <= ? "
    "ORDER BY timeout_at, id LIMIT ?"
)
#: What is still open below a task that ends is timed out by its own deadline from then on.
STEPS_LEFT: Final = (
    "UPDATE promises SET kind = kind | 16 "
    "WHERE state + 0 = 0 AND id > ? AND id < ? AND kind & 23 = 0"
)
PROMISES_LAPSED: Final = (
    "UPDATE promises SET state = 4, settled_at = timeout_at WHERE id IN ("
    "SELECT id FROM promises WHERE state = 0 AND kind & 16 AND kind & 8 = 0 AND timeout_at <= ? "
    "ORDER BY timeout_at LIMIT ?)"
)
PROMISE_NEXT_LAPSE: Final = (
    "SELECT timeout_at FROM promises WHERE state = 0 AND kind & 16 AND kind & 8 = 0 "
    "ORDER BY timeout_at LIMIT 1"
)
PROMISE_NEXT_DUE: Final = (
    "SELECT timeout_at FROM promises WHERE state = 0 AND kind & 7 ORDER BY timeout_at LIMIT 1"
)

# -- tasks --------------------------------------------------------------------
TASK_GET: Final = (
    "SELECT state, version, timeout_at, target, pid, ttl, releases FROM tasks WHERE id = ?"
)
TASK_FENCE: Final = "SELECT state, version, timeout_at FROM tasks WHERE id = ?"
#: The same, together with the promise the fence settles.
TASK_FENCE_SETTLE: Final = (
    "SELECT t.state, t.version, t.timeout_at, p.id, p.state, p.kind, p.timeout_at, "
    "p.created_at, p.settled_at, p.branch_len, p.tags, p.param, p.value "
    "FROM tasks t LEFT JOIN promises p ON p.id = ? WHERE t.id = ?"
)
#: The fences of a step whose promise is internal, unknown before or unwatched, and whose
#: task is held: one statement each, which is its own transaction when nothing is around it.
_TASK_HELD: Final = "id = ? AND state = 1 AND version = ? AND timeout_at > ?"
FENCED_INSERT: Final = (
    f"INSERT INTO promises ({PROMISE_COLUMNS}) "  # noqa: S608  # constants only
    "SELECT ?, 0, max(?, (timeout_at > ?) * 16), ?, ?, NULL, ?, ?, ?, NULL "
    f"FROM tasks WHERE {_TASK_HELD} "
    "ON CONFLICT (id) DO NOTHING"
)
_FENCED_SETTLE: Final = (
    "UPDATE promises SET state = ?, value = ?, settled_at = ? "  # constants only
    "WHERE id = ? AND state = 0 AND kind & 15 = 0 AND timeout_at > ? "
)
_IF_HELD: Final = f"AND EXISTS (SELECT 1 FROM tasks WHERE {_TASK_HELD})"  # noqa: S608  # constants only
FENCED_SETTLE: Final = f"{_FENCED_SETTLE}{_IF_HELD} RETURNING timeout_at, created_at, tags, param"
#: The same for a promise of which all that the answer shows is remembered.
FENCED_SETTLE_KNOWN: Final = (
    f"{_FENCED_SETTLE}AND timeout_at = ? AND created_at = ? AND tags = ? AND param IS ? {_IF_HELD}"
)
TASK_INSERT: Final = (
    "INSERT INTO tasks (id, state, version, timeout_at, target, pid, ttl, due_at, member) "
    "VALUES (?,?,?,?,?,?,?,?,?)"
)
TASK_CLAIM: Final = (
    "UPDATE tasks SET state = 1, version = ?, pid = ?, ttl = ?, due_at = ?, member = ? WHERE id = ?"
)
TASK_REQUEUE: Final = (
    "UPDATE tasks SET state = 0, pid = NULL, ttl = NULL, due_at = ?, member = NULL WHERE id = ?"
)
TASK_RELEASE: Final = (
    "UPDATE tasks SET state = 0, pid = NULL, ttl = NULL, due_at = ?, member = NULL, "
    "releases = releases + 1 WHERE id = ?"
)
#: Suspending and halting: nobody holds the task and no timer runs for it.
TASK_PARK: Final = (
    "UPDATE tasks SET state = ?, pid = NULL, ttl = NULL, due_at = NULL, member = NULL, "
    "releases = 0 WHERE id = ?"
)
TASK_FINISH: Final = (
    "UPDATE tasks SET state = 4, pid = NULL, ttl = NULL, due_at = NULL, member = NULL "
    "WHERE id = ? AND state <> 4"
)
TASK_HEARTBEAT: Final = (
    "UPDATE tasks SET due_at = min(?, 9223372036854775807 - ttl) + ttl "
    "WHERE id = ? AND state = 1 AND version = ? AND pid = ?"
)
TASK_DUE_AT: Final = "UPDATE tasks SET due_at = ? WHERE id = ?"
TASK_MEMBER: Final = "UPDATE tasks SET member = ? WHERE id = ? AND state = 0"
TASKS_DUE: Final = (
    "SELECT id, state, version, target, member FROM tasks WHERE due_at IS NOT NULL AND due_at <= ? "
    "ORDER BY due_at, id LIMIT ?"
)
TASK_NEXT_DUE: Final = "SELECT due_at FROM tasks WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1"
TASKS_OF_MEMBER: Final = (
    "SELECT id, state, version, target FROM tasks WHERE member = ? ORDER BY id LIMIT ?"
)

TASKS_HANDED: Final = (
    "SELECT id, version, target FROM tasks WHERE member = ? AND state = 0 ORDER BY id LIMIT ?"
)

# -- waiting ------------------------------------------------------------------
RESUME_ADD: Final = "INSERT OR IGNORE INTO resumes (task_id, awaited_id) VALUES (?, ?)"
RESUMES_CLEAR: Final = "DELETE FROM resumes WHERE task_id = ?"
RESUMES_COUNT: Final = "SELECT count(*) FROM resumes WHERE task_id = ?"
CALLBACK_ADD: Final = "INSERT OR IGNORE INTO callbacks (awaited_id, awaiter_id) VALUES (?, ?)"
CALLBACKS_OF: Final = "SELECT awaiter_id FROM callbacks WHERE awaited_id = ? ORDER BY awaiter_id"
CALLBACKS_CLEAR: Final = "DELETE FROM callbacks WHERE awaited_id = ?"
CALLBACKS_DROP_AWAITER: Final = "DELETE FROM callbacks WHERE awaiter_id = ?"
PROMISE_WATCHED: Final = "UPDATE promises SET kind = kind | 8 WHERE id = ?"
LISTENER_ADD: Final = "INSERT OR IGNORE INTO listeners (awaited_id, address) VALUES (?, ?)"
LISTENERS_OF: Final = "SELECT address FROM listeners WHERE awaited_id = ? ORDER BY address"
LISTENERS_CLEAR: Final = "DELETE FROM listeners WHERE awaited_id = ?"

# -- schedules ----------------------------------------------------------------
SCHEDULE_COLUMNS: Final = (
    "id, cron, promise_id, promise_timeout, promise_param, promise_tags, "
    "created_at, next_run_at, last_run_at"
)
SCHEDULE_GET: Final = f"SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE id = ?"  # noqa: S608  # constants only
SCHEDULE_INSERT: Final = f"INSERT INTO schedules ({SCHEDULE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,NULL)"  # noqa: S608  # constants only
SCHEDULE_DELETE: Final = "DELETE FROM schedules WHERE id = ?"
SCHEDULE_RAN: Final = "UPDATE schedules SET last_run_at = ?, next_run_at = ? WHERE id = ?"
SCHEDULES_DUE: Final = (
    f"SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE next_run_at <= ? "  # noqa: S608  # constants only
    "ORDER BY next_run_at, id LIMIT 1"
)
SCHEDULE_NEXT_DUE: Final = "SELECT next_run_at FROM schedules ORDER BY next_run_at LIMIT 1"

# -- outbox -------------------------------------------------------------------
OUTBOX_EXECUTE: Final = (
    "INSERT INTO outbox (address, task_id, version, member, ready_at) VALUES (?,?,?,?,?) "
    "ON CONFLICT (task_id) DO UPDATE SET address = excluded.address, "
    "version = excluded.version, member = excluded.member, ready_at = excluded.ready_at"
)
OUTBOX_UNBLOCK: Final = (
    "INSERT OR IGNORE INTO outbox (address, promise_id, member, ready_at) VALUES (?,?,?,?)"
)
OUTBOX_DROP_EXECUTE: Final = "DELETE FROM outbox WHERE task_id = ?"
OUTBOX_DELETE: Final = "DELETE FROM outbox WHERE seq = ?"
OUTBOX_AT: Final = (
    "SELECT seq, task_id, version, promise_id, member, ready_at FROM outbox "
    "WHERE address = ? ORDER BY seq"
)
OUTBOX_HELD: Final = "SELECT ready_at FROM outbox WHERE task_id = ?"
OUTBOX_OF_MEMBER: Final = "UPDATE outbox SET member = NULL WHERE member = ?"

# -- members ------------------------------------------------------------------
MEMBER_ADD: Final = (
    "INSERT INTO members (pid, os_pid, unicast, anycast, listening, opened_at) VALUES (?,?,?,?,?,?)"
)
MEMBER_LISTENS: Final = "UPDATE members SET listening = ? WHERE id = ?"
MEMBER_REMOVE: Final = "DELETE FROM members WHERE id = ?"
MEMBER_EXISTS: Final = "SELECT 1 FROM members WHERE id = ?"
MEMBERS: Final = "SELECT id, unicast, anycast, listening FROM members ORDER BY id"
