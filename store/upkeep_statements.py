"""The SQL of upkeep and of listings, named; tests check their query plans."""

from __future__ import annotations

from typing import Final

from store.records import PROMISE_COLUMNS

# -- garbage collection -------------------------------------------------------
FINISHED_ROOTS: Final = (
    "SELECT id, settled_at FROM promises WHERE state <> 0 AND instr(id, ':') = 0 "
    "AND (settled_at, id) > (?, ?) AND settled_at <= ? ORDER BY settled_at, id LIMIT ?"
)
#: Roots that no timer settles; they read as timed out from their deadline on.
LAPSED_ROOTS: Final = (
    "SELECT id FROM promises WHERE state = 0 AND kind & 16 AND timeout_at <= ? "
    "AND instr(id, ':') = 0"
)
OPEN_BELOW: Final = (
    "SELECT 1 FROM promises WHERE id > ? AND id < ? "
    "AND state = 0 AND kind & 7 AND timeout_at > ? LIMIT 1"
)
#: As for an execution whose root is gone: anything settled, or lapsing, after a time.
YOUNG_BELOW: Final = (
    "SELECT 1 FROM promises WHERE id > ? AND id < ? AND ifnull(settled_at, timeout_at) > ? LIMIT 1"
)
#: Origins from a cursor on that have promises below them and none of their own. From each id
#: it leaps to the next origin, so executions of many steps cost as much as short ones.
ORPHANED_ORIGINS: Final = (
    "WITH RECURSIVE walk (id) AS ("
    "SELECT min(id) FROM promises WHERE id >= ? "
    "UNION ALL "
    "SELECT CASE instr(walk.id, ':') "
    "WHEN 0 THEN (SELECT min(id) FROM promises WHERE id > walk.id) "
    "ELSE (SELECT min(id) FROM promises "
    "WHERE id >= substr(walk.id, 1, instr(walk.id, ':') - 1) || ';') END "
    "FROM walk WHERE walk.id IS NOT NULL) "
    "SELECT substr(walk.id, 1, instr(walk.id, ':') - 1) FROM walk "
    "WHERE instr(walk.id, ':') > 0 AND NOT EXISTS (SELECT 1 FROM promises p "
    "WHERE p.id = substr(walk.id, 1, instr(walk.id, ':') - 1)) LIMIT ?"
)
IDS_BELOW: Final = "SELECT id FROM promises WHERE id > ? AND id < ? LIMIT ?"
DELETE_PROMISE: Final = (
    "DELETE FROM resumes WHERE task_id = ?",
    "DELETE FROM callbacks WHERE awaited_id = ?",
    "DELETE FROM callbacks WHERE awaiter_id = ?",
    "DELETE FROM listeners WHERE awaited_id = ?",
    "DELETE FROM outbox WHERE task_id = ?",
    "DELETE FROM outbox WHERE promise_id = ?",
    "DELETE FROM tasks WHERE id = ?",
    "DELETE FROM labels WHERE promise_id = ?",
    "DELETE FROM promises WHERE id = ?",
)

# -- checks -------------------------------------------------------------------
#: Each finds the ids that break the rule its name states the breaking of.
INVARIANTS: Final = {
    "task without its promise": (
        "SELECT id FROM tasks WHERE NOT EXISTS (SELECT 1 FROM promises p WHERE p.id = tasks.id)"
    ),
    "promise with a target but no task": (
        "SELECT id FROM promises WHERE kind & 1 "
        "AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = promises.id)"
    ),
    "settled promise whose task is not fulfilled": (
        "SELECT t.id FROM tasks t JOIN promises p ON p.id = t.id "
        "WHERE t.state <> 4 AND p.state <> 0"
    ),
    "fulfilled task whose promise is pending": (
        "SELECT t.id FROM tasks t JOIN promises p ON p.id = t.id WHERE t.state = 4 AND p.state = 0"
    ),
    "settled promise without a time": (
        "SELECT id FROM promises WHERE (state = 0) <> (settled_at IS NULL)"
    ),
    "acquired task without a holder or a lease": (
        "SELECT id FROM tasks WHERE state = 1 AND (pid IS NULL OR ttl IS NULL OR due_at IS NULL)"
    ),
    "pending task that nobody will send again": (
        "SELECT id FROM tasks WHERE state = 0 AND due_at IS NULL"
    ),
    "suspended task that waits for nothing": (
        "SELECT id FROM tasks WHERE state = 2 "
        "AND NOT EXISTS (SELECT 1 FROM callbacks c WHERE c.awaiter_id = tasks.id)"
    ),
    "callback on a settled promise": (
        "SELECT c.awaited_id FROM callbacks c JOIN promises p ON p.id = c.awaited_id "
        "WHERE p.state <> 0"
    ),
    "listener on a settled promise": (
        "SELECT l.awaited_id FROM listeners l JOIN promises p ON p.id = l.awaited_id "
        "WHERE p.state <> 0"
    ),
}

# -- figures ------------------------------------------------------------------
COUNT_PROMISES: Final = "SELECT state, count(*) FROM promises GROUP BY state"
COUNT_TASKS: Final = "SELECT state, count(*) FROM tasks GROUP BY state"
COUNT_SCHEDULES: Final = "SELECT count(*) FROM schedules"
COUNT_MESSAGES: Final = "SELECT count(*) FROM outbox"
COUNT_MEMBERS: Final = "SELECT count(*) FROM members"
COUNT_TROUBLED: Final = (
    "SELECT count(*) FROM tasks WHERE state <> 4 AND releases > 0 AND releases > ?"
)

# -- listings -----------------------------------------------------------------
#: Roots by age, newest first, after a cursor.
ROOTS: Final = (
    f"SELECT {PROMISE_COLUMNS} FROM promises WHERE instr(id, ':') = 0 "  # noqa: S608  # constants only
    "AND created_at BETWEEN ? AND ? AND (created_at, id) < (?, ?)"
)
CHILDREN: Final = (
    f"SELECT {PROMISE_COLUMNS} FROM promises WHERE id > ? AND id < ? ORDER BY id LIMIT ?"  # noqa: S608  # constants only
)
TROUBLED: Final = (
    "SELECT id, releases FROM tasks WHERE state <> 4 AND releases > 0 AND releases > ? "
    "ORDER BY releases DESC LIMIT ?"
)
