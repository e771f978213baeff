"""What the protocol says of promises, told of the model and of the store alike."""

from __future__ import annotations

import json

import pytest
from model import comparison
from protocol_asked import HOUR_MS
from protocol_subjects import START_MS, StoreSubject

pytestmark = pytest.mark.unit


# --- envelope and ids ------------------------------------------------------------------------


async def test_an_unknown_kind_is_a_bad_request(subject):
    assert await subject.status("promise.burn", id="a") == 400


@pytest.mark.parametrize("data", [None, [], "text", 3])
async def test_data_that_is_no_object_is_a_bad_request(subject, data):
    assert (await subject.subject.ask("promise.get", data)).status == 400


@pytest.mark.parametrize(
    "spec",
    [
        {"id": ""},
        {"id": "a\0b"},
        {"id": 3},
        {"timeoutAt": None},
        {"timeoutAt": -1},
        {"timeoutAt": "1"},
        {"timeoutAt": 2**63},
        {"tags": {"resonate:origin": "a:1"}},
        {"tags": {"resonate:origin": "b"}},
        {"tags": {"resonate:branch": "a:2"}},
        {"tags": {"resonate:parent": "a:1.10"}},
        {"tags": {"resonate:origin": 3}},
    ],
)
async def test_a_malformed_promise_is_a_bad_request(subject, spec):
    data = {"id": "a:1.1", "timeoutAt": START_MS + HOUR_MS, **spec}
    assert await subject.status("promise.create", **data) == 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"kind": "promise.get"}',
        '{"kind": "promise.get", "data": {"id": "a"}}',
        '{"kind": 3, "head": {"corrId": "c", "version": "2026-04-01"}, "data": {}}',
        '{"kind": "promise.get", "head": {"corrId": "c", "version": "1999-01-01"}, "data": {}}',
        (
            '{"kind": "promise.get", "head": {"corrId": "c", "version": "2026-04-01"},'
            ' "data": {"id": "lone surrogate \\ud800"}}'
        ),
    ],
)
async def test_a_request_that_is_no_envelope_is_answered_with_a_refusal(tmp_path, text):
    store = StoreSubject(tmp_path / "raw.db")
    await store.open()
    reply = json.loads(await store.connections[0].send(text))
    await store.close()
    assert reply["head"]["status"] == 400
    assert isinstance(reply["data"], str)


async def test_a_promise_without_timeout_is_a_bad_request(subject):
    assert await subject.status("promise.create", id="a") == 400


async def test_an_id_extends_its_origin_branch_and_parent_by_the_sdk_s_separators(subject):
    lineage = {"origin": "my.app", "branch": "my.app:1", "parent": "my.app:1"}
    await subject.create("my.app:1.2", **lineage)
    await subject.create("my.app:1", origin="my.app", branch="my.app:1", parent="my.app")


# --- promises --------------------------------------------------------------------------------


async def test_creating_an_existing_promise_returns_the_old_record(subject):
    await subject.create("a", colour="red")
    await subject.advance(10)
    again = await subject.create("a", timeout_ms=5, colour="blue")
    assert (again["createdAt"], again["tags"]) == (START_MS, {"resonate:colour": "red"})


@pytest.mark.parametrize("state", ["resolved", "rejected", "rejected_canceled"])
async def test_a_settled_promise_is_final_and_settling_it_again_echoes_it(subject, state):
    await subject.create("a")
    first = await subject.settle("a", state)
    await subject.advance(10)
    again = await subject.settle("a", "resolved" if state == "rejected" else "rejected")
    assert first["state"] == again["state"] == state
    assert again["settledAt"] == START_MS


@pytest.mark.parametrize("state", ["pending", "rejected_timedout", "done", None, 1])
async def test_a_bad_settle_state_is_refused_before_the_promise_is_looked_for(subject, state):
    assert await subject.status("promise.settle", id="missing", state=state) == 400


async def test_settling_a_missing_promise_is_not_found(subject):
    assert await subject.status("promise.settle", id="missing", state="resolved") == 404


@pytest.mark.parametrize(("timer", "state"), [("true", "resolved"), ("no", "rejected_timedout")])
async def test_a_promise_created_past_its_deadline_is_born_settled(subject, timer, state):
    promise = await subject.create("a", timeout_ms=0, target=True, timer=timer)
    assert promise["state"] == state
    assert promise["createdAt"] == promise["settledAt"] == promise["timeoutAt"] == START_MS
    task = await subject.task("a")
    assert (task["state"], task["version"]) == ("fulfilled", 0)
    assert await subject.messages() == []


@pytest.mark.parametrize(("timer", "state"), [("true", "resolved"), ("no", "rejected_timedout")])
async def test_a_reader_sees_the_timeout_exactly_at_the_deadline(subject, timer, state):
    await subject.create("a", timeout_ms=1_000, timer=timer)
    subject.subject.clock.now_ms = START_MS + 999
    assert (await subject.promise("a"))["state"] == "pending"
    subject.subject.clock.now_ms = START_MS + 5_000
    promise = await subject.promise("a")
    assert (promise["state"], promise["settledAt"]) == (state, START_MS + 1_000)


async def test_settling_past_the_deadline_echoes_the_timeout(subject):
    await subject.create("a", timeout_ms=1_000)
    subject.subject.clock.now_ms = START_MS + 1_000
    assert (await subject.settle("a"))["state"] == "rejected_timedout"


async def test_a_listener_hears_of_the_settlement_once(subject):
    await subject.create("a")
    mine = subject.subject.unicast(0)
    for _ in range(2):
        await subject.ok("promise.register_listener", awaited="a", address=mine)
    settled = await subject.settle("a")
    assert await subject.messages() == [("unblock", comparison.promise(settled))]
    assert await subject.messages() == []


async def test_a_unicast_message_goes_to_its_address_and_no_other(subject):
    for member in range(3):
        await subject.create(f"a:{member}")
        address = subject.subject.unicast(member)
        await subject.ok("promise.register_listener", awaited=f"a:{member}", address=address)
        await subject.settle(f"a:{member}")
    await subject.subject.tick()
    heard = {(m.member, m.data["promise"]["id"]) for m in subject.subject.received()}
    assert heard == {(0, "a:0"), (1, "a:1"), (2, "a:2")}


async def test_a_listener_of_a_settled_promise_gets_the_record_and_no_message(subject):
    await subject.create("a")
    await subject.settle("a")
    address = subject.subject.unicast(0)
    data = await subject.ok("promise.register_listener", awaited="a", address=address)
    assert data["promise"]["state"] == "resolved"
    assert await subject.messages() == []


async def test_an_unblock_of_an_empty_promise_holds_no_null_value_or_param(subject):
    await subject.create("a")
    address = subject.subject.unicast(0)
    await subject.ok("promise.register_listener", awaited="a", address=address)
    await subject.ok("promise.settle", id="a", state="resolved")
    assert len(await subject.messages()) == 1  # comparison.message refuses nulls


async def test_a_listener_needs_a_promise_and_an_address(subject):
    address = subject.subject.unicast(0)
    listen = "promise.register_listener"
    assert await subject.status(listen, awaited="missing", address=address) == 404
    await subject.create("a")
    for bad in ("", "nowhere", "poll://workers", None):
        assert await subject.status(listen, awaited="a", address=bad) == 400


async def test_a_callback_needs_two_promises_and_an_awaiter_with_a_target(subject):
    await subject.create("a:1", external="true")
    await subject.create("a:2")
    await subject.create("a:3", target=True)
    callback = "promise.register_callback"
    assert await subject.status(callback, awaited="a:3", awaiter="a:3") == 400
    assert await subject.status(callback, awaited="missing", awaiter="a:3") == 404
    assert await subject.status(callback, awaited="a:1", awaiter="missing") == 422
    assert await subject.status(callback, awaited="a:1", awaiter="a:2") == 422
    assert await subject.status(callback, awaited="a:1", awaiter="a:3") == 200


async def test_a_plain_promise_cannot_be_awaited(subject):
    await subject.acquired("a")
    await subject.create("a:1")
    await subject.create("a:2", external="false")
    for plain in ("a:1", "a:2"):
        callback = {"awaited": plain, "awaiter": "a"}
        assert await subject.status("promise.register_callback", **callback) == 422
        assert await subject.status("task.suspend", **subject.suspend("a", 1, plain)) == 422


# --- tags ------------------------------------------------------------------------------------


async def test_a_target_makes_a_task_and_one_execute_message(subject):
    await subject.create("a", target=True)
    assert await subject.messages() == [("execute", "a", 0)]
    assert (await subject.task("a"))["state"] == "pending"
    assert await subject.messages() == []


async def test_a_promise_without_target_has_no_task(subject):
    await subject.create("a")
    assert await subject.status("task.get", id="a") == 404


async def test_a_message_to_a_group_goes_to_one_member(subject):
    for number in range(20):
        await subject.create(f"a:{number}", target=True)
    executes = await subject.messages()
    assert sorted(executes) == sorted(("execute", f"a:{number}", 0) for number in range(20))


async def test_a_delay_defers_the_first_execute_to_its_moment(subject):
    await subject.create("a", target=True, delay=str(START_MS + 2_000))
    assert await subject.messages() == []
    await subject.advance(1_999)
    assert await subject.messages() == []
    await subject.advance(1)
    assert await subject.messages() == [("execute", "a", 0)]


@pytest.mark.parametrize("tag", ["external", "timer", "target"])
async def test_an_awaitable_promise_wakes_its_awaiter_at_the_deadline(subject, tag):
    await subject.acquired("a")
    if tag == "target":
        await subject.create("a:1", timeout_ms=1_000, target=True)
    else:
        await subject.create("a:1", timeout_ms=1_000, **{tag: "true"})
    await subject.ok("task.suspend", **subject.suspend("a", 1, "a:1"))
    await subject.messages()
    await subject.advance(999)
    assert await subject.messages() == []
    await subject.advance(1)
    assert await subject.messages() == [("execute", "a", 1)]


# --- settling --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "acquired", "suspended", "halted"])
async def test_settling_a_promise_fulfils_its_task_whatever_its_state(subject, state):
    await subject.create("a", target=True)
    await subject.create("a:1", external="true")
    if state in ("acquired", "suspended"):
        await subject.acquire("a")
    if state == "suspended":
        await subject.ok("task.suspend", **subject.suspend("a", 1, "a:1"))
    if state == "halted":
        await subject.ok("task.halt", id="a")
    await subject.messages()
    await subject.settle("a")
    assert (await subject.task("a"))["state"] == "fulfilled"
    await subject.settle("a:1")
    await subject.advance(60_000)
    assert await subject.messages() == []
