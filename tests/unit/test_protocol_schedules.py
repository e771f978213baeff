"""What the protocol says of schedules, told of the model and of the store alike."""

from __future__ import annotations

import pytest
from model import comparison
from protocol_asked import HOUR_MS, TARGET
from protocol_subjects import START_MS

pytestmark = pytest.mark.unit


# --- search ----------------------------------------------------------------------------------


async def test_a_search_asks_for_state_and_all_tags(subject):
    await subject.create("a:1", colour="red", size="big")
    await subject.create("a:2", colour="red")
    await subject.create("a:3", colour="red", size="big")
    await subject.settle("a:3")
    tags = {"resonate:colour": "red", "resonate:size": "big"}
    data = await subject.ok("promise.search", state="pending", tags=tags)
    assert [item["id"] for item in data["promises"]] == ["a:1"]


async def test_pages_are_ordered_by_id_and_end_without_a_cursor(subject):
    for number in (3, 1, 2, 5, 4):
        await subject.create(f"a:{number}", target=True)
    for kind, name in (("promise.search", "promises"), ("task.search", "tasks")):
        seen, cursor = [], None
        for _ in range(3):
            data = await subject.ok(kind, limit=2, **({"cursor": cursor} if cursor else {}))
            page = [item["id"] for item in data[name]]
            seen += page
            cursor = data.get("cursor")
            assert cursor in (None, page[-1])
        assert (seen, cursor) == ([f"a:{number}" for number in (1, 2, 3, 4, 5)], None)


async def test_a_full_last_page_has_no_cursor(subject):
    for number in (1, 2):
        await subject.create(f"a:{number}")
    data = await subject.ok("promise.search", limit=2)
    assert (len(data["promises"]), data.get("cursor")) == (2, None)


@pytest.mark.parametrize("kind", ["promise.search", "task.search", "schedule.search"])
@pytest.mark.parametrize("limit", [0, -1, 1001, "5", 1.5])
async def test_a_limit_outside_1_to_1000_is_a_bad_request(subject, kind, limit):
    assert await subject.status(kind, limit=limit) == 400


@pytest.mark.parametrize(
    ("kind", "name", "limit"),
    [("promise.search", "promises", 100), ("schedule.search", "schedules", 10)],
)
async def test_a_page_is_of_the_default_size(subject, kind, name, limit):
    for number in range(limit + 1):
        if name == "promises":
            await subject.create(f"a:{number}")
        else:
            await create_schedule(subject, id=f"s{number}")
    data = await subject.ok(kind)
    assert len(data[name]) == limit
    assert data["cursor"] == data[name][-1]["id"]


# --- schedules -------------------------------------------------------------------------------


async def create_schedule(subject, **changes):
    data = {
        "id": "s",
        "cron": "* * * * *",
        "promiseId": "{{.id}}-{{.timestamp}}",
        "promiseTimeout": HOUR_MS,
        "promiseParam": {"data": "in"},
        "promiseTags": {TARGET: subject.workers},
        **changes,
    }
    return await subject.ask("schedule.create", **data)


async def test_creating_an_existing_schedule_returns_the_old_record(subject):
    first = await create_schedule(subject)
    await subject.advance(10)
    again = await create_schedule(subject, cron="0 0 * * *", promiseTimeout=1)
    assert comparison.canonical(again) == comparison.canonical(first)


@pytest.mark.parametrize(
    "change",
    [
        {"promiseTags": {}},
        {"promiseTimeout": -1},
        {"promiseTimeout": None},
        {"promiseId": ""},
        *(
            {"cron": cron}
            for cron in ("", "* * * *", "* * * * * *", "60 * * * *", "x * * * *", "*/0 * * * *")
        ),
        *(
            {"cron": cron}
            for cron in ("* 24 * * *", "* * 0 * *", "* * * 13 *", "@daily", "-1 * * * *")
        ),
    ],
)
async def test_a_malformed_schedule_is_a_bad_request(subject, change):
    assert (await create_schedule(subject, **change)).status == 400


async def test_a_schedule_can_be_deleted_once(subject):
    await create_schedule(subject)
    assert await subject.status("schedule.delete", id="s") == 200
    assert await subject.status("schedule.delete", id="s") == 404
    assert await subject.status("schedule.get", id="s") == 404
    await subject.advance(HOUR_MS)
    assert (await subject.ok("promise.search"))["promises"] == []


async def test_a_run_makes_a_promise_of_its_own_lineage_as_of_its_moment(subject):
    created = await create_schedule(subject)
    run_at = created.data["schedule"]["nextRunAt"]
    assert run_at == (START_MS // 60_000 + 1) * 60_000
    subject.subject.clock.now_ms = run_at + 30_000
    await subject.subject.tick()
    id_ = f"s-{run_at}"
    promise = await subject.promise(id_)
    assert (promise["createdAt"], promise["timeoutAt"]) == (run_at, run_at + HOUR_MS)
    assert promise["param"]["data"] == "in"
    lineage = {f"resonate:{name}": id_ for name in ("origin", "branch", "parent")}
    assert lineage.items() <= promise["tags"].items()
    assert ("execute", id_, 0) in await subject.messages()
    schedule = (await subject.ok("schedule.get", id="s"))["schedule"]
    assert (schedule["lastRunAt"], schedule["nextRunAt"]) == (run_at, run_at + 60_000)


async def test_every_missed_run_fires_once(subject):
    await create_schedule(subject)
    await subject.advance(10 * 60_000)
    await subject.subject.tick()
    promises = (await subject.ok("promise.search"))["promises"]
    assert len(promises) == 10
    executes = [message for message in await subject.messages() if message[0] == "execute"]
    assert {id_ for _, id_, _ in executes} == {promise["id"] for promise in promises}


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", "2023-11-14T22:14"),
        ("*/15 * * * *", "2023-11-14T22:15"),
        ("0 0 * * *", "2023-11-15T00:00"),
        ("30 4 * * 0", "2023-11-19T04:30"),
        ("0 12 20,25 * *", "2023-11-20T12:00"),
        ("0 0 1-7 * 3", "2023-11-15T00:00"),
        ("0 0 29 2 *", "2024-02-29T00:00"),
        ("5-50/20 9-17 * 1,6-8 1-5", "2024-01-01T09:05"),
        ("59 23 31 12 *", "2023-12-31T23:59"),
    ],
)
async def test_a_cron_expression_names_its_next_minute_in_utc(subject, cron, expected):
    import datetime as dt

    answer = await create_schedule(subject, cron=cron)
    next_run = dt.datetime.fromtimestamp(answer.data["schedule"]["nextRunAt"] / 1000, dt.UTC)
    assert next_run.isoformat(timespec="minutes").removesuffix("+00:00") == expected


async def test_a_schedule_whose_promises_never_time_out_stops_no_other(subject):
    await create_schedule(subject, promiseTimeout=2**63 - 1)
    await create_schedule(subject, id="t")
    await subject.advance(60_000)
    runs = [item["id"] for item in (await subject.ok("promise.search"))["promises"]]
    assert sorted(run[0] for run in runs) == ["s", "t"]


@pytest.mark.parametrize("delay", ["soon", "", "-1", "1.5", "9" * 30, "9" * 5000, "٣"])
async def test_a_schedule_whose_delay_is_no_time_fires_and_stops_no_other(subject, delay):
    tags = {TARGET: subject.workers, "resonate:delay": delay}
    assert (await create_schedule(subject, promiseTags=tags)).status == 200
    await create_schedule(subject, id="t")
    await subject.advance(60_000)
    executes = [message[1] for message in await subject.messages() if message[0] == "execute"]
    assert sorted(run[0] for run in executes) == ["s", "t"]


@pytest.mark.parametrize("name", ["awaited", "awaiter"])
async def test_ids_of_a_wait_hold_no_null_bytes(subject, name):
    given = {"awaited": "a", "awaiter": "b"} | {name: "x\0"}
    assert await subject.status("promise.register_callback", **given) == 400
    if name == "awaited":
        listening = {"awaited": "x\0", "address": subject.workers}
        assert await subject.status("promise.register_listener", **listening) == 400
