"""What the protocol says of tasks, told of the model and of the store alike."""

from __future__ import annotations

import pytest
from model import comparison
from protocol_asked import HOUR_MS, Asked
from protocol_subjects import START_MS, StoreSubject

pytestmark = pytest.mark.unit


# --- tasks -----------------------------------------------------------------------------------


async def test_a_new_task_is_acquired_at_version_1_without_a_message(subject):
    data = await subject.ok("task.create", **subject.task_create("a"))
    task = comparison.task(data["task"])
    assert (task["state"], task["version"], task["pid"]) == ("acquired", 1, "p1")
    assert data["promise"]["state"] == "pending"
    assert await subject.messages() == []


async def test_creating_a_task_that_is_pending_claims_it(subject):
    await subject.create("a", target=True)
    data = await subject.ok("task.create", **subject.task_create("a"))
    assert (data["task"]["state"], data["task"]["version"]) == ("acquired", 1)


async def test_creating_a_task_that_is_taken_conflicts(subject):
    await subject.acquired("a")
    assert await subject.status("task.create", **subject.task_create("a")) == 409


async def test_creating_a_task_that_is_fulfilled_returns_it(subject):
    await subject.acquired("a")
    await subject.settle("a")
    data = await subject.ok("task.create", **subject.task_create("a"))
    assert (data["task"]["state"], data["promise"]["state"]) == ("fulfilled", "resolved")


async def test_creating_a_task_for_a_plain_promise_is_unprocessable(subject):
    await subject.create("a")
    assert await subject.status("task.create", **subject.task_create("a")) == 422


@pytest.mark.parametrize("missing", ["pid", "ttl", "target"])
async def test_a_task_needs_target_pid_and_ttl(subject, missing):
    data = subject.task_create("a")
    if missing == "target":
        data["action"]["data"]["tags"] = {}
    else:
        del data[missing]
    assert await subject.status("task.create", **data) == 400


async def test_only_a_claim_raises_the_version(subject):
    await subject.create("a", target=True)
    assert (await subject.acquire("a", 0))["task"]["version"] == 1
    await subject.ok("task.release", id="a", version=1)
    assert (await subject.task("a"))["version"] == 1
    assert (await subject.acquire("a", 1))["task"]["version"] == 2
    await subject.ok("task.halt", id="a")
    await subject.ok("task.continue", id="a")
    assert (await subject.task("a"))["version"] == 2


async def test_a_task_is_acquired_only_when_pending_and_at_its_version(subject):
    claim = {"pid": "p1", "ttl": 1_000}
    assert await subject.status("task.acquire", id="a", version=0, **claim) == 404
    await subject.create("a", target=True)
    assert await subject.status("task.acquire", id="a", version=1, **claim) == 409
    await subject.acquire("a")
    assert await subject.status("task.acquire", id="a", version=1, **claim) == 409


async def test_releasing_offers_the_task_again_at_once(subject):
    await subject.acquired("a")
    for version in (1, 2, 3, 4):
        await subject.ok("task.release", id="a", version=version)
        assert await subject.messages() == [("execute", "a", version)]
        await subject.acquire("a", version)
    await subject.ok("task.release", id="a", version=5)
    task = await subject.task("a")
    assert (task["state"], task["pid"], task["ttl"]) == ("pending", None, None)


async def test_fulfilling_settles_the_promise(subject):
    await subject.acquired("a")
    data = await subject.ok("task.fulfill", **subject.fulfill("a", 1, "rejected"))
    assert data["promise"]["state"] == "rejected"
    assert (await subject.task("a"))["state"] == "fulfilled"


async def test_a_bad_state_is_refused_before_the_task_is_looked_for(subject):
    request = subject.fulfill("missing", 1, "rejected_timedout")
    assert await subject.status("task.fulfill", **request) == 400


@pytest.mark.parametrize("when", ["wrong version", "released", "expired"])
async def test_a_write_without_the_task_in_hand_is_fenced_off(subject, when):
    await subject.acquired("a")
    await subject.create("a:1", external="true")
    version = 1
    if when == "wrong version":
        version = 2
    elif when == "released":
        await subject.ok("task.release", id="a", version=1)
    else:
        subject.subject.clock.now_ms += HOUR_MS
    create = {"id": "a:2", "timeoutAt": START_MS + 2 * HOUR_MS}
    writes = {
        "task.fence": subject.fence("a", version, "promise.create", **create),
        "task.fulfill": subject.fulfill("a", version),
        "task.suspend": subject.suspend("a", version, "a:1"),
        "task.release": {"id": "a", "version": version},
    }
    for kind, data in writes.items():
        assert await subject.status(kind, **data) == 409, kind
    assert await subject.status("promise.get", id="a:2") == 404


async def test_a_fence_creates_and_settles_other_promises(subject):
    await subject.acquired("a")
    create = {"id": "a:1", "timeoutAt": START_MS + HOUR_MS}
    data = await subject.ok("task.fence", **subject.fence("a", 1, "promise.create", **create))
    assert data["action"]["head"]["status"] == 200
    assert data["action"]["data"]["promise"]["state"] == "pending"
    settle = {"id": "a:1", "state": "resolved", "value": {"data": "v"}}
    data = await subject.ok("task.fence", **subject.fence("a", 1, "promise.settle", **settle))
    assert data["action"]["data"]["promise"]["state"] == "resolved"
    assert data["preload"] == []


async def test_a_fence_on_the_task_s_own_promise_is_a_bad_request(subject):
    settle = {"id": "a", "state": "resolved"}
    request = subject.fence("a", 1, "promise.settle", **settle)
    assert await subject.status("task.fence", **request) == 400
    await subject.acquired("a")
    assert await subject.status("task.fence", **request) == 400


async def test_a_fence_that_settles_a_missing_promise_says_so_inside(subject):
    await subject.acquired("a")
    request = subject.fence("a", 1, "promise.settle", id="a:1", state="resolved")
    data = await subject.ok("task.fence", **request)
    assert data["action"]["head"]["status"] == 404


@pytest.mark.parametrize("awaited", [(), ("a",), ("a:1", "a:1")])
async def test_a_suspension_on_nothing_itself_or_twice_the_same_is_a_bad_request(subject, awaited):
    await subject.acquired("a")
    await subject.create("a:1", external="true")
    assert await subject.status("task.suspend", **subject.suspend("a", 1, *awaited)) == 400
    assert (await subject.task("a"))["state"] == "acquired"


async def test_a_suspension_on_a_missing_promise_is_unprocessable(subject):
    await subject.acquired("a")
    assert await subject.status("task.suspend", **subject.suspend("a", 1, "a:1")) == 422


async def test_a_suspension_on_a_settled_promise_redirects_and_registers_nothing(subject):
    await subject.acquired("a")
    await subject.create("a:1", external="true")
    await subject.create("a:2", external="true")
    await subject.settle("a:1")
    assert await subject.status("task.suspend", **subject.suspend("a", 1, "a:1", "a:2")) == 300
    assert (await subject.task("a"))["state"] == "acquired"
    await subject.settle("a:2")
    assert (await subject.task("a"))["resumes"] == 0
    assert await subject.messages() == []


async def test_a_suspended_task_wakes_at_the_same_version(subject):
    await subject.acquired("a")
    await subject.create("a:1", external="true")
    assert (await subject.ask("task.suspend", **subject.suspend("a", 1, "a:1"))).status == 200
    await subject.settle("a:1")
    assert await subject.messages() == [("execute", "a", 1)]
    task = await subject.task("a")
    assert (task["state"], task["version"], task["resumes"]) == ("pending", 1, 1)


async def test_callbacks_of_an_earlier_suspension_stay_live(subject):
    await subject.acquired("a")
    for id_ in ("a:1", "a:2"):
        await subject.create(id_, external="true")
    await subject.ok("task.suspend", **subject.suspend("a", 1, "a:1", "a:2"))
    await subject.settle("a:1")
    await subject.acquire("a", 1)
    await subject.create("a:3", external="true")
    await subject.ok("task.suspend", **subject.suspend("a", 2, "a:3"))
    await subject.messages()
    await subject.settle("a:2")
    assert await subject.messages() == [("execute", "a", 2)]


async def test_a_task_counts_the_settlements_it_has_noted_until_it_is_claimed(subject):
    await subject.acquired("a")
    for id_ in ("a:1", "a:2", "a:3"):
        await subject.create(id_, external="true")
    await subject.ok("task.suspend", **subject.suspend("a", 1, "a:1", "a:2", "a:3"))
    for count, id_ in enumerate(("a:1", "a:2", "a:3"), 1):
        await subject.settle(id_)
        assert (await subject.task("a"))["resumes"] == count
    assert await subject.messages() == [("execute", "a", 1)]
    await subject.acquire("a", 1)
    assert (await subject.task("a"))["resumes"] == 0


@pytest.mark.parametrize("state", ["pending", "acquired", "halted"])
async def test_an_awaiter_that_is_not_suspended_only_notes_a_settlement(subject, state):
    await subject.create("a", target=True)
    await subject.create("a:1", external="true")
    await subject.ok("promise.register_callback", awaited="a:1", awaiter="a")
    if state == "acquired":
        await subject.acquire("a")
    if state == "halted":
        await subject.ok("task.halt", id="a")
    await subject.messages()
    await subject.settle("a:1")
    task = await subject.task("a")
    assert (task["state"], task["resumes"]) == (state, 1)
    assert await subject.messages() == []


async def test_a_heartbeat_extends_only_the_task_in_hand(subject):
    for id_ in ("a", "b:1", "c.d"):
        await subject.create(id_, target=True)
        await subject.acquire(id_, ttl=1_000)
    await subject.messages()
    subject.subject.clock.now_ms += 600
    claims = [{"id": "a", "version": 1}, {"id": "b:1", "version": 7}, {"id": "nope", "version": 1}]
    await subject.ok("task.heartbeat", pid="p1", tasks=claims)
    await subject.ok("task.heartbeat", pid="p2", tasks=[{"id": "c.d", "version": 1}])
    await subject.ok("task.heartbeat", pid="p1", tasks=[])
    await subject.advance(400)
    states = [(await subject.task(id_))["state"] for id_ in ("a", "b:1", "c.d")]
    assert states == ["acquired", "pending", "pending"]
    await subject.advance(599)
    assert (await subject.task("a"))["state"] == "acquired"
    await subject.advance(1)
    assert (await subject.task("a"))["state"] == "pending"


async def test_the_longest_lease_is_kept(subject):
    await subject.create("a", target=True)
    await subject.acquire("a", ttl=2**63 - 1)
    await subject.ok("task.heartbeat", pid="p1", tasks=[{"id": "a", "version": 1}])
    await subject.advance(HOUR_MS - 1)
    assert (await subject.task("a"))["state"] == "acquired"


async def test_a_lapsed_lease_offers_the_task_again_at_the_same_version(subject):
    await subject.create("a", target=True)
    await subject.acquire("a", ttl=1_000)
    await subject.messages()
    await subject.advance(1_000)
    assert await subject.messages() == [("execute", "a", 1)]
    task = await subject.task("a")
    assert (task["state"], task["version"], task["pid"]) == ("pending", 1, None)


async def test_a_lease_of_a_process_nobody_knows_lasts_to_its_deadline(subject):
    await subject.create("a", target=True)
    await subject.acquire("a", pid="a-stranger", ttl=60_000)
    await subject.messages()
    await subject.advance(59_999)
    assert (await subject.task("a"))["state"] == "acquired"


async def test_an_unclaimed_task_is_sent_again_after_five_seconds(subject):
    await subject.create("a", target=True)
    await subject.messages()
    await subject.advance(4_999)
    assert await subject.messages() == []
    await subject.advance(1)
    assert await subject.messages() == [("execute", "a", 0)]


async def test_halting_stops_offers_until_the_task_is_continued(subject):
    await subject.create("a", target=True)
    await subject.messages()
    assert await subject.status("task.continue", id="a") == 409
    for _ in range(2):
        await subject.ok("task.halt", id="a")
    await subject.advance(60_000)
    assert await subject.messages() == []
    await subject.ok("task.continue", id="a")
    assert await subject.messages() == [("execute", "a", 0)]


async def test_a_fulfilled_task_cannot_be_halted_or_continued(subject):
    await subject.acquired("a")
    await subject.settle("a")
    assert await subject.status("task.halt", id="a") == 409
    assert await subject.status("task.continue", id="a") == 409


# --- outbox ----------------------------------------------------------------------------------


async def test_a_task_has_one_execute_waiting_the_latest(tmp_path):
    store = StoreSubject(tmp_path / "outbox.db")
    await store.open()
    asked = Asked(store)
    asked.workers = store.group("late")
    await asked.create("a", target=True)
    await asked.create("b", target=True)
    await asked.acquire("a")
    await asked.ok("task.release", id="a", version=1)
    await asked.settle("b")
    await store.join("p9", "late")
    assert await asked.messages() == [("execute", "a", 1)]
    await store.close()


# --- preload ---------------------------------------------------------------------------------


async def test_a_claim_carries_the_promises_of_the_same_branch(subject):
    await subject.create("a", target=True, branch="a")
    await subject.create("a:1", branch="a")
    await subject.create("a:2", branch="a", timeout_ms=0)
    await subject.create("a:3", branch="a:3")
    data = await subject.acquire("a")
    assert {item["id"] for item in data["preload"]} == {"a:1", "a:2"}
    await subject.create("a:4", branch="a", external="true")
    await subject.settle("a:4")
    answer = await subject.ask("task.suspend", **subject.suspend("a", 1, "a:4"))
    assert answer.status == 300
    assert {item["id"] for item in answer.data["preload"]} == {"a:1", "a:2", "a:4"}
