"""What makes a store file of this release one of an older one, to migrate it again."""

TO_VERSION_1 = """
    BEGIN;
    DROP INDEX promises_lapsing;
    CREATE INDEX roots_lapsing ON promises (timeout_at)
      WHERE state = 0 AND kind & 7 = 0 AND instr(id, ':') = 0;
    DROP INDEX tasks_by_state;
    CREATE INDEX tasks_open ON tasks (state, id) WHERE state <> 4;
    UPDATE promises SET kind = kind & 15;
    PRAGMA user_version = 1;
    COMMIT;
"""
