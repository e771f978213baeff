"""Ids follow where a task was made, and never who came first."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from durable.errors import UnknownTaskError
from durable.scopes import Scope, bind, current_scope, install_task_factory

pytestmark = pytest.mark.unit


class Owner:
    """Stands for a running function."""

    def __init__(self) -> None:
        self.base_id = "x"
        self.scope = Scope(self, "x")
        self.tasks: list[asyncio.Task[Any]] = []

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self.tasks.append(task)


@pytest.fixture
async def owner():
    uninstall = install_task_factory(asyncio.get_running_loop())
    made = Owner()
    task = asyncio.current_task()
    before = bind(task, made.scope)
    yield made
    bind(task, before)
    uninstall()


async def in_scope(work: Any) -> tuple[Any, Owner]:
    """Run ``work()`` in a task of an execution's."""
    uninstall = install_task_factory(asyncio.get_running_loop())
    owner = Owner()

    async def main() -> Any:
        bind(asyncio.current_task(), owner.scope)
        return await work()

    try:
        return await asyncio.create_task(main()), owner
    finally:
        uninstall()


async def mint() -> str:
    await asyncio.sleep(random.random() * 0.001)
    return current_scope().next_id()


async def test_steps_of_one_task_are_numbered_in_the_order_of_the_calls() -> None:
    async def work() -> list[str]:
        return [current_scope().next_id() for _ in range(3)]

    assert (await in_scope(work))[0] == ["x:1", "x:2", "x:3"]


@pytest.mark.parametrize("_round", range(5))
async def test_gathered_tasks_are_numbered_by_their_place_and_not_by_who_runs_first(
    _round: int,
) -> None:
    async def work() -> list[str]:
        return list(await asyncio.gather(*(mint() for _ in range(5))))

    ids, owner = await in_scope(work)
    assert ids == [f"x:mint~{n}.1" for n in range(5)]
    assert len(owner.tasks) == 5


async def test_coroutines_are_counted_by_name_so_that_a_librarys_tasks_shift_nothing() -> None:
    async def unrelated() -> None:
        return None

    async def work() -> list[str]:
        first = asyncio.create_task(mint())
        await asyncio.create_task(unrelated())
        second = asyncio.create_task(mint())
        return [await first, await second]

    assert (await in_scope(work))[0] == ["x:mint~0.1", "x:mint~1.1"]


@pytest.mark.parametrize("_round", range(5))
async def test_as_completed_counts_by_the_list_it_was_given(_round: int) -> None:
    async def number(n: int) -> tuple[int, str]:
        return n, await mint()

    async def work() -> dict[int, str]:
        found = [await each for each in asyncio.as_completed([number(n) for n in range(6)])]
        return dict(found)

    assert (await in_scope(work))[0] == {n: f"x:number~{n}.1" for n in range(6)}


async def test_as_completed_over_a_generator_tells_coroutines_by_their_arguments() -> None:
    async def number(n: int) -> tuple[int, str]:
        return n, await mint()

    async def work() -> dict[int, str]:
        return dict([await each for each in asyncio.as_completed(number(n) for n in range(6))])

    first, second = [(await in_scope(work))[0] for _ in range(2)]
    assert first == second
    assert len(set(first.values())) == 6


async def test_as_completed_over_a_generator_of_equal_coroutines_is_refused_at_the_call() -> None:
    async def work() -> int:
        refused = 0
        for each in asyncio.as_completed(mint() for _ in range(3)):
            try:
                await each
            except UnknownTaskError:
                refused += 1
        return refused

    # One of them may stand for all; any further one could be any.
    assert (await in_scope(work))[0] >= 2


async def with_options(n: int, pair: tuple[int, str] = (0, ""), *, flag: bool = False) -> Any:
    return (n, pair, flag), await mint()


async def test_coroutines_of_a_generator_are_told_apart_by_tuples_and_keywords_too() -> None:
    given = [(0, (1, "a"), False), (0, (1, "b"), False), (0, (1, "a"), True)]

    async def work() -> dict[Any, str]:
        making = (with_options(n, pair, flag=flag) for n, pair, flag in given)
        return dict([await each for each in asyncio.as_completed(making)])

    first, second = [(await in_scope(work))[0] for _ in range(2)]
    assert first == second
    assert len(set(first.values())) == 3


async def test_coroutines_of_a_generator_whose_arguments_may_change_are_refused() -> None:
    async def number(items: list[int]) -> str:
        return await mint()

    async def work() -> list[str]:
        refused = []
        for each in asyncio.as_completed(number([n]) for n in range(3)):
            with pytest.raises(UnknownTaskError) as caught:
                await each
            refused.append(str(caught.value))
        return refused

    told, _ = await in_scope(work)
    assert len(told) == 3
    assert "asyncio.create_task" in told[0]


async def test_functions_and_semaphores_tell_no_coroutine_from_another_and_hinder_none() -> None:
    async def number(n: int, limit: asyncio.Semaphore, say: Any) -> tuple[int, str]:
        async with limit:
            return say(n), await mint()

    async def work() -> dict[int, str]:
        limit = asyncio.Semaphore(2)
        making = (number(n, limit, abs) for n in range(4))
        return dict([await each for each in asyncio.as_completed(making)])

    first, second = [(await in_scope(work))[0] for _ in range(2)]
    assert first == second
    assert len(set(first.values())) == 4


async def test_a_coroutine_that_stands_in_the_list_twice_is_one_task() -> None:
    async def number(n: int) -> tuple[int, str]:
        return n, await mint()

    async def work() -> list[tuple[int, str]]:
        first, second = number(1), number(2)
        return [await each for each in asyncio.as_completed([first, first, second])]

    found, _ = await in_scope(work)
    assert sorted(found) == [(1, "x:number~0.1"), (2, "x:number~1.1")]


async def test_a_list_that_is_given_again_is_another_batch() -> None:
    async def number(n: int) -> tuple[int, str]:
        return n, await mint()

    async def work() -> list[str]:
        found = []
        for _ in range(3):
            for each in asyncio.as_completed([number(0), number(1)]):
                found.append((await each)[1])
        return found

    found, _ = await in_scope(work)
    assert len(set(found)) == 6


async def test_a_keyed_id_is_the_same_whoever_calls() -> None:
    async def keyed() -> str:
        return current_scope().keyed_id("k")

    async def work() -> set[str]:
        return {current_scope().keyed_id("k"), *await asyncio.gather(keyed(), keyed())}

    assert (await in_scope(work))[0] == {"x:=k"}


async def test_tasks_of_nobody_and_places_without_a_task_are_refused() -> None:
    with pytest.raises(UnknownTaskError, match="not created by a task of this execution"):
        current_scope()
    with pytest.raises(UnknownTaskError, match="outside an asyncio task"):
        await asyncio.to_thread(current_scope)


async def test_the_factory_leaves_another_one_and_its_tasks_as_they_were() -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        uninstall = install_task_factory(loop)
        task = asyncio.create_task(asyncio.sleep(0, 1), name="named")
        assert task.get_name() == "named"
        assert await task == 1
        assert made == ["sleep"]
        uninstall()
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(None)
