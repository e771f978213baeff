"""Every statement finds its rows by an index: its cost does not grow with the file."""

from __future__ import annotations

import sqlite3

import pytest

from store import schema, search, statements, upkeep_statements, wire

pytestmark = pytest.mark.unit

#: Statements that read tables of a handful of rows, or a whole table on purpose.
WHOLE = {
    *("MEMBERS", "COUNT_PROMISES", "COUNT_TASKS", "COUNT_SCHEDULES", "COUNT_MESSAGES"),
    "COUNT_MEMBERS",
}


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("plans") / "a.db")
    schema.prepare(path)
    connection = sqlite3.connect(path)
    connection.create_function("has_tags", 2, search.has_tags, deterministic=True)
    yield connection
    connection.close()


def plan(connection, statement, parameters=None):
    if parameters is None:
        parameters = (None,) * statement.count("?")
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [row[3] for row in rows]


def named(module):
    for name, value in vars(module).items():
        if (
            name.isupper()
            and isinstance(value, str)
            and value.split()[0]
            in {
                *("SELECT", "UPDATE", "DELETE", "INSERT"),
            }
        ):
            yield name, value
    if module is upkeep_statements:
        yield from ((f"DELETE_PROMISE[{i}]", s) for i, s in enumerate(module.DELETE_PROMISE))


STATEMENTS = [*named(statements), *named(upkeep_statements)]


@pytest.mark.parametrize(("name", "statement"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_no_statement_scans_a_table_or_sorts_a_result(connection, name, statement):
    steps = plan(connection, statement)
    if name in WHOLE:
        return
    scans = [step for step in steps if step.startswith("SCAN") and "USING" not in step]
    assert scans == []
    assert [step for step in steps if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (statements.PROMISES_DUE, "promises_due"),
        (statements.PROMISE_NEXT_DUE, "promises_due"),
        (statements.TASKS_DUE, "tasks_due"),
        (statements.TASK_NEXT_DUE, "tasks_due"),
        (statements.TASKS_OF_MEMBER, "tasks_member"),
        (statements.SCHEDULES_DUE, "schedules_due"),
        (statements.CALLBACKS_DROP_AWAITER, "callbacks_awaiter"),
        (statements.OUTBOX_AT, "outbox_address"),
        (upkeep_statements.FINISHED_ROOTS, "roots_settled"),
        (upkeep_statements.LAPSED_ROOTS, "promises_lapsing"),
        (statements.PROMISES_LAPSED, "promises_lapsing"),
        (statements.PROMISE_NEXT_LAPSE, "promises_lapsing"),
        (statements.STEPS_LEFT, "promises_by_state"),
        (upkeep_statements.ROOTS + " ORDER BY created_at DESC, id DESC", "roots_created"),
        (upkeep_statements.TROUBLED, "tasks_troubled"),
    ],
)
def test_what_is_due_or_listed_is_found_through_its_own_index(connection, statement, index):
    assert any(index in step for step in plan(connection, statement))


def test_a_branch_is_read_as_one_range_of_ids(connection):
    assert plan(connection, statements.BRANCH) == [
        "SEARCH promises USING PRIMARY KEY (id>? AND id<?)"
    ]


@pytest.mark.parametrize("state", [None, "pending", "rejected", "rejected_canceled"])
def test_searches_page_by_id_without_sorting(connection, state):
    queries = [
        search.promises(wire.PromiseSearch(state=state, tags={"a": "b"}), 0),
        search.schedules(wire.ScheduleSearch(), 0),
        search.tasks(wire.TaskSearch(state="pending" if state else None), 0),
    ]
    for query in queries:
        steps = plan(connection, query.statement, query.parameters)
        assert any(step.startswith("SEARCH") for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize(
    ("state", "indexes"),
    [
        ("pending", {"promises_by_state"}),
        ("resolved", {"promises_by_state", "promises_due"}),
        ("rejected", {"promises_by_state"}),
        ("rejected_canceled", {"promises_by_state"}),
        ("rejected_timedout", {"promises_by_state", "promises_due", "promises_lapsing"}),
    ],
)
def test_a_search_by_state_passes_over_no_promise_of_another(connection, state, indexes):
    query = search.promises(wire.PromiseSearch(state=state), 0)
    steps = plan(connection, query.statement, query.parameters)
    used = [step.split(" INDEX ")[1].split()[0] for step in steps if " INDEX " in step]
    assert set(used) == indexes, steps
    assert not any("PRIMARY KEY (id>" in step for step in steps), steps
    assert not any(step.startswith("SCAN promises") for step in steps), steps


@pytest.mark.parametrize("state", [None, "pending", "resolved", "rejected_timedout"])
def test_a_search_by_a_tag_of_ones_own_reads_those_that_have_it(connection, state):
    query = search.promises(wire.PromiseSearch(state=state, tags={"colour": "red", "a": "b"}), 0)
    assert plan(connection, query.statement, query.parameters) == [
        "SEARCH labels USING PRIMARY KEY (name=? AND content=? AND promise_id>?)",
        "SEARCH promises USING PRIMARY KEY (id=?)",
    ]


@pytest.mark.parametrize("state", ["suspended", "fulfilled"])
def test_a_search_for_tasks_of_a_state_passes_over_no_other(connection, state):
    query = search.tasks(wire.TaskSearch(state=state), 0)
    steps = plan(connection, query.statement, query.parameters)
    assert any("tasks_by_state (state=? AND id>?)" in step for step in steps)
    assert not any("PRIMARY KEY (id>" in step or step.startswith("SCAN") for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize(
    "tags",
    [
        {"resonate:origin": "run"},
        {"resonate:branch": "run:1.2", "resonate:origin": "run"},
        {"resonate:parent": "run:1", "colour": "red"},
    ],
)
def test_a_search_by_lineage_reads_one_range_of_ids(connection, tags):
    query = search.promises(wire.PromiseSearch(tags=tags), 0)
    assert plan(connection, query.statement, query.parameters) == [
        "SEARCH promises USING PRIMARY KEY (id>? AND id<?)"
    ]
