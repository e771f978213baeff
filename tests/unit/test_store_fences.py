"""A fence answered by one statement is answered as the general operation would.

The same requests go to two stores: to one as encoders write them, to the other with the
keys of the envelope in another order, which takes the long way.
"""

from __future__ import annotations

import json
import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_support import FAR_MS, GROUP, START_MS, Clock, claim, fence, promise, settle

from store import SqliteConnection, fences
from store.records import LAPSING

pytestmark = pytest.mark.unit

_IDS = ["w:1", "w:2", "w:1.1", "w", "v:1", "w:", "", "w:\0", "x"]
_TAGS = st.dictionaries(
    st.sampled_from(
        [
            *("resonate:origin", "resonate:branch", "resonate:parent", "resonate:scope"),
            *("resonate:target", "resonate:timer", "resonate:external", "resonate:delay", "own"),
        ]
    ),
    st.sampled_from(["w", "w:1", "v", "", "true", "local", "poll://any@default", "5"]),
    max_size=4,
)
_PARAMS = st.sampled_from(
    [None, {}, {"data": "eA=="}, {"headers": {"a": "b"}}, {"data": None}, {"data": 1}, []]
)
_CREATES = st.builds(
    lambda id_, timeout_at, param, tags: (
        "promise.create",
        {"id": id_, "timeoutAt": timeout_at, "param": param, "tags": tags},
    ),
    st.sampled_from(_IDS),
    st.sampled_from([FAR_MS, START_MS + 50, START_MS, 0, -1, 1 << 63, "soon"]),
    _PARAMS,
    st.one_of(_TAGS, st.sampled_from([None, {"own": 1}, []])),
)
_SETTLES = st.builds(
    lambda id_, state, value: ("promise.settle", {"id": id_, "state": state, "value": value}),
    st.sampled_from(_IDS),
    st.sampled_from(["resolved", "rejected", "rejected_canceled", "pending", "done"]),
    _PARAMS,
)
_STEPS = st.tuples(
    st.one_of(_CREATES, _CREATES, _SETTLES),
    st.sampled_from([1, 1, 1, 1, 2, -1]),
    st.sampled_from(["w", "w", "w", "nobody", ""]),
    st.sampled_from([0, 0, 0, 20, 60]),
    st.booleans(),
)


def _texts(number: int, data: object) -> tuple[str, str]:
    head = {"corrId": f"c{number}", "version": "2026-04-01"}
    plain = json.dumps({"kind": "task.fence", "head": head, "data": data})
    return plain, json.dumps({"head": head, "data": data, "kind": "task.fence"})


async def _stored(connection: SqliteConnection) -> list[object]:
    with sqlite3.connect(connection.path) as other:
        # The general operation keeps every internal promise in the index of deadlines.
        other.execute(f"UPDATE promises SET kind = kind & ~{LAPSING}")
        return [
            sorted(other.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in ("promises", "tasks", "listeners", "outbox")
        ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(_STEPS, max_size=12))
async def test_it_does_and_says_what_the_general_operation_does(tmp_path_factory, steps):
    directory = tmp_path_factory.mktemp("fences")
    clock = Clock()
    stores = [SqliteConnection(directory / f"{name}.db", clock=clock, pid="p") for name in "ab"]
    for store in stores:
        await claim(store, "w")
    for number, ((kind, data), version, task, later_ms, listen) in enumerate(steps):
        clock.now_ms += later_ms
        request = fence(task, kind, version)
        request["action"]["data"] = data
        answers = [
            await store.send(text)
            for store, text in zip(stores, _texts(number, request), strict=True)
        ]
        assert answers[0] == answers[1]
        if listen:
            for store in stores:
                watched = {"awaited": data["id"], "address": GROUP}
                await store.send(
                    json.dumps(
                        {
                            "kind": "promise.register_listener",
                            "head": {"corrId": "l", "version": "2026-04-01"},
                            "data": watched,
                        }
                    )
                )
    assert await _stored(stores[0]) == await _stored(stores[1])
    for store in stores:
        await store.stop()


async def test_a_step_takes_one_statement_to_create_and_one_to_settle(tmp_path, monkeypatch):
    connection = SqliteConnection(tmp_path / "a.db")
    await claim(connection, "w")
    seen: list[str] = []
    connection._engine.database.connection.set_trace_callback(seen.append)
    create = fence("w", "promise.create", **promise("w:1", origin="w", branch="w", parent="w"))
    for number, data in enumerate((create, fence("w", "promise.settle", **settle("w:1")))):
        answer = json.loads(await connection.send(_texts(number, data)[0]))
        assert answer["data"]["action"]["head"]["status"] == 200
    assert [text.split()[0] for text in seen] == ["INSERT", "UPDATE"]
    await connection.stop()


async def test_what_is_remembered_of_a_promise_never_overrules_the_file(tmp_path):
    connection = SqliteConnection(tmp_path / "a.db")
    await claim(connection, "w")
    create = fence("w", "promise.create", **promise("w:1", origin="w", branch="w", parent="w"))
    await connection.send(_texts(1, create)[0])
    with sqlite3.connect(connection.path) as other:
        other.execute("UPDATE promises SET tags = '{\"own\":\"x\"}' WHERE id = 'w:1'")
    settled = fence("w", "promise.settle", **settle("w:1"))
    answer = json.loads(await connection.send(_texts(2, settled)[0]))
    record = answer["data"]["action"]["data"]["promise"]
    assert (record["state"], record["tags"]) == ("resolved", {"own": "x"})
    await connection.stop()


async def test_what_is_remembered_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(fences, "REMEMBERED", 3)
    connection = SqliteConnection(tmp_path / "a.db")
    await claim(connection, "w")
    ids = [f"w:{number}" for number in range(1, 7)]
    for number, id_ in enumerate(ids):
        create = fence("w", "promise.create", **promise(id_, origin="w"))
        await connection.send(_texts(number, create)[0])
    assert len(connection._engine.database.created) == 3
    for number, id_ in enumerate(ids):
        settled = fence("w", "promise.settle", **settle(id_))
        answer = json.loads(await connection.send(_texts(number, settled)[0]))
        assert answer["data"]["action"]["data"]["promise"]["state"] == "resolved"
    await connection.stop()
