"""What a user of dependency injection relies on."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import gc
import threading
import time
import warnings
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import pytest

from durable.dependencies import Container, Dependencies, Value
from durable.dependency_errors import (
    AsyncDependencyError,
    CaptiveDependencyError,
    ConstructionFailedError,
    ContainerClosedError,
    DependencyBusyError,
    DependencyCloseError,
    DependencyCycleError,
    DependencyInUseError,
    ExecutionContextError,
    InvalidDependencyError,
    UnknownDependencyError,
)
from durable.errors import DurableError
from durable.factories import async_executor_factory
from executor import AsyncExecutor, ExecutorClosedError, NamespaceManager

pytestmark = pytest.mark.unit


class Resource:
    """Something to close, which notes when."""

    def __init__(self, log, name="resource"):
        self.log = log
        self.name = name

    def close(self):
        self.log.append(self.name)


class AsyncResource:
    """Something to close with await, which notes when."""

    def __init__(self, log, name="async resource"):
        self.log = log
        self.name = name

    async def aclose(self):
        await asyncio.sleep(0)
        self.log.append(self.name)


class Context:
    """A context as ours: it asks its container."""

    def __init__(self, execution_id="exec-1"):
        self.execution_id = execution_id
        self.container: Container

    def get_dependency(self, name):
        return self.container.get(name)

    async def aget_dependency(self, name):
        return await self.container.aget(name)


@pytest.fixture
def deps():
    return Dependencies()


def opened(deps, execution_id="exec-1"):
    ctx = Context(execution_id)
    ctx.container = deps.container(ctx)
    return ctx


# Registering ------------------------------------------------------------


def test_a_value_is_given_as_it_is_and_never_closed(deps):
    log = []
    value = Resource(log)
    deps.set_dependency("value", value)
    with deps, deps.container() as container:
        assert container.get("value") is value
        assert deps.get("value") is value
    assert log == []


def test_a_function_is_a_factory_for_each_execution_unless_said_otherwise(deps):
    deps.set_dependency("thing", object)
    with deps.container() as one, deps.container() as two:
        assert one.get("thing") is one.get("thing")
        assert one.get("thing") is not two.get("thing")


def test_a_function_wrapped_as_value_is_the_dependency_itself(deps):
    deps.set_dependency("hash", Value(len))
    assert deps.container().get("hash") is len


def test_factories_are_called_with_the_context_or_with_nothing(deps):
    deps.set_dependency("with", lambda ctx: ctx.execution_id)
    deps.set_dependency("without", lambda: "no context")
    deps.set_dependency("named", lambda ctx=None: ctx.execution_id)
    deps.set_dependency("private", lambda _ctx=None: _ctx.execution_id)
    deps.set_dependency("bound", lambda url="http://x": url)
    deps.set_dependency("any", lambda *args: args[0].execution_id)
    deps.set_dependency("partial", functools.partial(lambda a, ctx: (a, ctx.execution_id), 1))
    deps.set_dependency("builtin", dict)
    with opened(deps, "e7").container as container:
        got = {name: container.get(name) for name in deps.names() if name != "async_executor"}
    assert got == {
        "with": "e7", "without": "no context", "named": "e7", "private": "e7",
        "bound": "http://x", "any": "e7", "partial": (1, "e7"), "builtin": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("factory", "named"),
    [(lambda ctx, url: None, "ctx, url"), (lambda *, url: None, "url")],
)
def test_a_factory_of_the_wrong_arity_is_refused_by_name_when_registered(deps, factory, named):
    factory.__qualname__ = "make_client"
    with pytest.raises(InvalidDependencyError, match=rf"make_client needs .*\({named}\)"):
        deps.set_dependency("client", factory)


@pytest.mark.parametrize("name", ["", None, 3, "a\nb"])
def test_a_name_must_be_a_non_empty_printable_string(deps, name):
    with pytest.raises(InvalidDependencyError, match="name"):
        deps.set_dependency(name, 1)


def test_a_value_cannot_be_built_for_each_execution(deps):
    with pytest.raises(InvalidDependencyError, match="leave out singleton=False"):
        deps.set_dependency("value", 3, singleton=False)


def test_an_object_that_can_be_called_must_say_what_it_is(deps):
    class Callable:
        def __call__(self):
            return "made"

    thing = Callable()
    with pytest.raises(InvalidDependencyError, match=r"Value\(\.\.\.\)"):
        deps.set_dependency("thing", thing)
    deps.set_dependency("thing", thing, singleton=False)
    assert deps.container().get("thing") == "made"
    deps.set_dependency("value", Value(thing))
    assert deps.container().get("value") is thing


def test_an_unknown_name_lists_the_registered_names_and_the_nearest(deps):
    deps.set_dependency("database", 1)
    deps.set_dependency("cache", 2)
    for ask in (deps.get, deps.container().get):
        with pytest.raises(UnknownDependencyError) as caught:
            ask("databse")
        assert caught.value.nearest == "database"
        assert caught.value.registered == ("async_executor", "cache", "database")
        assert "Did you mean 'database'?" in str(caught.value)
        assert "'async_executor', 'cache', 'database'" in str(caught.value)
        assert isinstance(caught.value, DurableError)


def test_a_factory_can_be_replaced_for_executions_that_have_not_used_it(deps):
    deps.set_dependency("thing", lambda: "old")
    using, later = deps.container(), deps.container()
    assert using.get("thing") == "old"
    deps.set_dependency("thing", lambda: "new")
    assert using.get("thing") == "old"
    assert later.get("thing") == "new"


def test_what_is_shared_can_be_replaced_only_before_it_is_handed_out(deps):
    deps.set_dependency("singleton", lambda: "old", singleton=True)
    deps.set_dependency("singleton", lambda: "new", singleton=True)
    deps.set_dependency("value", 1)
    deps.set_dependency("value", 2)
    assert (deps.get("singleton"), deps.get("value")) == ("new", 2)
    for name in ("singleton", "value"):
        with pytest.raises(DependencyInUseError, match="aclose"):
            deps.set_dependency(name, 3)
    deps.close()
    deps.set_dependency("singleton", lambda: "newest", singleton=True)
    assert deps.get("singleton") == "newest"


def test_the_executor_is_registered_from_the_start_and_can_be_replaced(deps):
    assert "async_executor" in deps
    deps.set_dependency("async_executor", lambda ctx: "mine", singleton=False)
    assert opened(deps).get_dependency("async_executor") == "mine"


# Per execution ----------------------------------------------------------


async def test_instances_are_closed_in_reverse_order_when_the_execution_ends(deps):
    log = []
    deps.set_dependency("a", lambda: Resource(log, "a"))
    deps.set_dependency("b", lambda: AsyncResource(log, "b"))
    deps.set_dependency("c", lambda: Resource(log, "c"))
    async with deps.container() as container:
        for name in ("a", "b", "c"):
            container.get(name)
        assert log == []
    assert log == ["c", "b", "a"]


async def test_a_dependency_of_a_dependency_is_closed_after_it(deps):
    log = []
    deps.set_dependency("pool", lambda: Resource(log, "pool"))

    def session(ctx):
        ctx.get_dependency("pool")
        return Resource(log, "session")

    deps.set_dependency("session", session)
    ctx = opened(deps)
    async with ctx.container:
        ctx.get_dependency("session")
    assert log == ["session", "pool"]


async def test_every_kind_of_factory_is_entered_and_closed(deps):
    log = []

    def generator():
        yield "generator"
        log.append("generator")

    async def async_generator():
        yield "async generator"
        log.append("async generator")

    @contextmanager
    def managed(ctx):
        yield "managed"
        log.append("managed")

    @asynccontextmanager
    async def async_managed():
        yield "async managed"
        log.append("async managed")

    class Manager:
        def __enter__(self):
            return "manager"

        def __exit__(self, *error):
            log.append("manager")

    class AsyncManager:
        async def __aenter__(self):
            return "async manager"

        async def __aexit__(self, *error):
            log.append("async manager")

    async def coroutine():
        return AsyncResource(log, "coroutine")

    factories = {
        "generator": generator,
        "async generator": async_generator,
        "managed": managed,
        "async managed": async_managed,
        "manager": Manager,
        "async manager": AsyncManager,
    }
    for name, factory in factories.items():
        deps.set_dependency(name, factory)
    deps.set_dependency("coroutine", coroutine)
    async with deps.container() as container:
        assert [await container.aget(name) for name in factories] == list(factories)
        assert (await container.aget("coroutine")).name == "coroutine"
        assert log == []
    assert log == ["coroutine", *reversed(factories)]


async def test_code_after_a_generators_yield_runs_also_when_the_execution_failed(deps):
    log = []

    def connection():
        yield "connection"
        log.append("closed")

    deps.set_dependency("connection", connection)
    with pytest.raises(ValueError, match="failed"):
        async with deps.container() as container:
            container.get("connection")
            raise ValueError("failed")
    assert log == ["closed"]


async def test_what_can_close_itself_is_not_entered_and_a_lock_is_not_acquired(deps):
    class Both(Resource):
        def __enter__(self):
            raise AssertionError("entered")

    log = []
    deps.set_dependency("both", lambda: Both(log))
    deps.set_dependency("lock", threading.Lock)
    deps.set_dependency("async lock", asyncio.Lock)
    async with deps.container() as container:
        container.get("both")
        assert not container.get("lock").locked()
        assert not (await container.aget("async lock")).locked()
    assert log == ["resource"]


async def test_enter_true_enters_what_has_a_close_of_its_own(deps):
    class Transaction:
        def close(self):
            raise AssertionError("closed instead of left")

        def __enter__(self):
            return "begun"

        def __exit__(self, *error):
            return None

    deps.set_dependency("transaction", Transaction, enter=True)
    async with deps.container() as container:
        assert container.get("transaction") == "begun"


async def test_all_are_closed_though_some_fail_and_the_failures_are_raised_together(deps):
    log = []

    class Failing(Resource):
        def close(self):
            raise OSError(self.name)

    deps.set_dependency("first", lambda: Resource(log, "first"))
    deps.set_dependency("bad", lambda: Failing(log, "bad"))
    deps.set_dependency("worse", lambda: Failing(log, "worse"))
    deps.set_dependency("last", lambda: AsyncResource(log, "last"))
    container = deps.container()
    for name in ("first", "bad", "worse", "last"):
        container.get(name)
    with pytest.raises(DependencyCloseError) as caught:
        await container.aclose()
    assert log == ["last", "first"]
    assert [str(error) for error in caught.value.exceptions] == ["worse", "bad"]
    assert caught.value.exceptions[0].__notes__ == ["while closing dependency 'worse'"]
    assert isinstance(caught.value, DurableError)
    await container.aclose()


async def test_a_cancellation_while_closing_arrives_after_everything_was_closed(deps):
    log = []

    class Slow:
        async def aclose(self):
            await asyncio.sleep(60)

    deps.set_dependency("first", lambda: Resource(log, "first"))
    deps.set_dependency("slow", Slow)
    container = deps.container()
    container.get("first")
    container.get("slow")
    task = asyncio.create_task(container.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["first"]


async def test_handing_on_a_singleton_or_value_does_not_close_it_with_the_execution(deps):
    log = []
    deps.set_dependency("pool", lambda: Resource(log, "pool"), singleton=True)
    deps.set_dependency("value", Resource(log, "value"))
    for name in ("pool", "value"):
        deps.set_dependency(
            f"same {name}", lambda ctx, name=name: ctx.get_dependency(name), singleton=False
        )
    ctx = opened(deps)
    async with ctx.container:
        assert ctx.get_dependency("same pool") is ctx.get_dependency("pool")
        assert ctx.get_dependency("same value") is ctx.get_dependency("value")
    assert log == []
    await deps.aclose()
    assert log == ["pool"]


async def test_after_the_execution_nothing_can_be_had_from_it(deps):
    deps.set_dependency("thing", object)
    container = deps.container()
    await container.aclose()
    for ask in (container.get, container.aget):
        with pytest.raises(ContainerClosedError, match="has ended"):
            result = ask("thing")
            await result


async def test_an_instance_finished_after_the_execution_ended_is_closed_at_once(deps):
    log = []
    gate = asyncio.Event()

    async def slow():
        await gate.wait()
        return AsyncResource(log, "late")

    deps.set_dependency("slow", slow)
    container = deps.container()
    task = asyncio.create_task(container.aget("slow"))
    await asyncio.sleep(0)
    await container.aclose()
    gate.set()
    with pytest.raises(ContainerClosedError):
        await task
    assert log == ["late"]


def test_a_container_dropped_unclosed_warns_with_the_names(deps):
    deps.set_dependency("leaky", lambda: Resource([]))
    container = deps.container()
    container.get("leaky")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del container
        gc.collect()
        other = Dependencies()
        other.set_dependency("shared leak", lambda: Resource([]), singleton=True)
        other.get("shared leak")
        del other
        gc.collect()
    leaks = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert len(leaks) == 2
    assert "leaky" in leaks[0]
    assert "shared leak" in leaks[1]


def test_a_closed_container_is_dropped_in_silence(deps):
    deps.set_dependency("thing", lambda: Resource([]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with deps.container() as container:
            container.get("thing")
        del container
        gc.collect()


def test_closing_without_await_closes_what_it_can_and_names_the_rest(deps):
    log = []
    deps.set_dependency("sync", lambda: Resource(log, "sync"))
    deps.set_dependency("async", lambda: AsyncResource(log))
    container = deps.container()
    container.get("sync")
    container.get("async")
    with pytest.raises(DependencyCloseError) as caught:
        container.close()
    assert log == ["sync"]
    assert caught.group_contains(AsyncDependencyError, match="aclose")


# Async factories --------------------------------------------------------


async def test_an_async_factory_must_be_awaited_and_the_error_says_how(deps):
    async def make(ctx):
        return ctx.execution_id

    deps.set_dependency("make", make)
    deps.set_dependency("hidden", lambda ctx: make(ctx))
    ctx = opened(deps)
    for name in ("make", "hidden"):
        with pytest.raises(AsyncDependencyError, match=rf"await ctx\.aget_dependency\('{name}'\)"):
            ctx.get_dependency(name)
        assert await ctx.aget_dependency(name) == "exec-1"
        assert ctx.get_dependency(name) == "exec-1"


async def test_concurrent_requests_in_one_execution_build_once(deps):
    built = []

    async def make():
        await asyncio.sleep(0.01)
        built.append(object())
        return built[-1]

    deps.set_dependency("make", make)
    async with deps.container() as container:
        got = await asyncio.gather(*(container.aget("make") for _ in range(10)))
    assert len(built) == 1
    assert all(one is built[0] for one in got)


async def test_a_cancelled_construction_is_taken_over_by_who_waits_for_it(deps):
    started = []

    async def make():
        started.append(1)
        await asyncio.sleep(0.01)
        return "made"

    deps.set_dependency("make", make, singleton=True)
    first = asyncio.create_task(deps.aget("make"))
    await asyncio.sleep(0)
    second = asyncio.create_task(deps.aget("make"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "made"
    assert len(started) == 2


def test_a_construction_abandoned_with_its_loop_can_be_started_again(deps):
    async def make():
        await asyncio.sleep(0)
        return "made"

    deps.set_dependency("make", make, singleton=True)
    abandoned = deps.aget("make")
    contextvars.Context().run(abandoned.send, None)
    contextvars.Context().run(abandoned.close)
    assert asyncio.run(asyncio.wait_for(deps.aget("make"), 5)) == "made"


async def test_a_factorys_exception_keeps_its_type_and_says_which_dependency(deps):
    def make():
        raise OSError("no route")

    deps.set_dependency("client", make, singleton=True)
    deps.set_dependency("service", lambda ctx: ctx.get_dependency("client"), singleton=True)
    with pytest.raises(OSError, match="no route") as caught:
        deps.get("service")
    assert caught.value.__notes__ == [
        "while building dependency 'client'",
        "while building dependency 'service'",
    ]


async def test_a_failed_construction_is_tried_again_at_the_next_use(deps):
    attempts = iter([OSError("not yet"), None])

    def make():
        if error := next(attempts):
            raise error
        return "made"

    deps.set_dependency("make", make, singleton=True)
    with pytest.raises(OSError, match="not yet"):
        deps.get("make")
    assert deps.get("make") == "made"


async def test_asking_without_await_for_what_a_task_of_this_thread_builds_is_an_error(deps):
    class Manager:
        async def __aenter__(self):
            await asyncio.sleep(0.01)
            return "ready"

        async def __aexit__(self, *error):
            return None

    deps.set_dependency("manager", Manager, singleton=True)
    task = asyncio.create_task(deps.aget("manager"))
    await asyncio.sleep(0)
    with pytest.raises(DependencyBusyError, match="aget_dependency"):
        deps.get("manager")
    assert await task == "ready"
    assert deps.get("manager") == "ready"
    await deps.aclose()


# Singletons -------------------------------------------------------------


async def test_singletons_are_built_at_first_use_and_closed_in_reverse_order(deps):
    log, built = [], []

    def make(name):
        built.append(name)
        return Resource(log, name)

    for name in ("a", "b", "c"):
        deps.set_dependency(name, lambda name=name: make(name), singleton=True)
    assert built == []
    async with deps:
        for name in ("b", "a", "b"):
            async with deps.container() as container:
                container.get(name)
        assert (built, log) == (["b", "a"], [])
    assert log == ["a", "b"]


def test_threads_that_use_a_singleton_first_at_once_build_it_once(deps):
    built = []

    def make():
        time.sleep(0.02)
        built.append(object())
        return built[-1]

    deps.set_dependency("slow", make, singleton=True)
    start = threading.Barrier(8)
    got = []

    def use():
        start.wait(10)
        got.append(deps.get("slow"))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(built) == 1
    assert got == built * 8


def test_loops_in_several_threads_share_one_async_singleton(deps):
    built = []

    async def make():
        await asyncio.sleep(0.02)
        built.append(object())
        return built[-1]

    deps.set_dependency("slow", make, singleton=True)
    start = threading.Barrier(4)
    got = []

    async def use():
        start.wait(10)
        got.extend(await asyncio.gather(*(deps.aget("slow") for _ in range(5))))

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(built) == 1
    assert got == built * 20


def test_a_singleton_may_need_singletons_and_values(deps):
    deps.set_dependency("url", "sqlite://")
    deps.set_dependency("pool", lambda ctx: [ctx.get_dependency("url")], singleton=True)
    deps.set_dependency("repo", lambda ctx: {"pool": ctx.get_dependency("pool")}, singleton=True)
    assert deps.get("repo") == {"pool": ["sqlite://"]}
    assert deps.get("repo")["pool"] is deps.get("pool")


def test_a_singleton_that_needs_what_lives_for_one_execution_is_refused(deps):
    deps.set_dependency("session", object, singleton=False)
    deps.set_dependency("service", lambda ctx: ctx.get_dependency("session"), singleton=True)
    with pytest.raises(CaptiveDependencyError, match=r"'service' asks for 'session'"):
        deps.get("service")


def test_a_singleton_cannot_reach_an_execution_through_a_closure_either(deps):
    ctx = opened(deps)
    deps.set_dependency("session", object, singleton=False)
    deps.set_dependency("service", lambda: ctx.get_dependency("session"), singleton=True)
    ctx.get_dependency("session")
    with pytest.raises(CaptiveDependencyError, match=r"'service' asks for 'session'"):
        ctx.get_dependency("service")


def test_a_singletons_context_has_dependencies_only(deps):
    deps.set_dependency("asks", lambda ctx: ctx.execution_id, singleton=True)
    deps.set_dependency("prudent", lambda ctx: getattr(ctx, "id", "none"), singleton=True)
    with pytest.raises(ExecutionContextError, match=r"singleton 'asks' .* 'execution_id'"):
        opened(deps).get_dependency("asks")
    assert deps.get("prudent") == "none"


async def test_a_task_that_a_singletons_factory_leaves_behind_may_use_executions(deps):
    ctx = opened(deps)
    tasks = []

    async def later():
        await asyncio.sleep(0.01)
        return ctx.get_dependency("session")

    async def service():
        tasks.append(asyncio.create_task(later()))
        return "service"

    deps.set_dependency("session", lambda: "session", singleton=False)
    deps.set_dependency("service", service, singleton=True)
    assert await deps.aget("service") == "service"
    assert await tasks[0] == "session"


# Cycles -----------------------------------------------------------------


@pytest.mark.parametrize("singleton", [True, False])
def test_a_cycle_is_printed(deps, singleton):
    for name, needs in (("a", "b"), ("b", "c"), ("c", "a")):
        deps.set_dependency(
            name, lambda ctx, needs=needs: ctx.get_dependency(needs), singleton=singleton
        )
    with pytest.raises(DependencyCycleError, match="a -> b -> c -> a") as caught:
        opened(deps).get_dependency("a")
    assert caught.value.cycle == ("a", "b", "c", "a")


def test_a_dependency_that_needs_itself_is_a_cycle(deps):
    deps.set_dependency("a", lambda ctx: ctx.get_dependency("a"))
    with pytest.raises(DependencyCycleError, match="a -> a"):
        opened(deps).get_dependency("a")


async def test_an_async_cycle_is_found_also_through_gather_in_a_factory(deps):
    async def first(ctx):
        return await asyncio.gather(ctx.aget_dependency("leaf"), ctx.aget_dependency("second"))

    async def second(ctx):
        return await ctx.aget_dependency("first")

    deps.set_dependency("leaf", lambda: "leaf")
    deps.set_dependency("first", first)
    deps.set_dependency("second", second)
    with pytest.raises(DependencyCycleError, match="first -> second -> first"):
        await asyncio.wait_for(opened(deps).aget_dependency("first"), 5)


async def test_what_a_failed_factory_left_behind_builds_nothing_more(deps):
    """In a circle of factories that gather, each failure would otherwise start the next."""
    built = []

    def gathering(name, needs):
        async def make(ctx):
            built.append(name)
            await asyncio.gather(*map(ctx.aget_dependency, needs))

        return make

    for name, needs in (("a", "bcab"), ("b", "cab"), ("c", "abc")):
        deps.set_dependency(name, gathering(name, needs), singleton=True)
    with pytest.raises(DependencyCycleError):
        await deps.aget("a")
    for _ in range(1000):
        if len(asyncio.all_tasks()) == 1:
            break
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(built) < 20


async def test_a_task_of_a_failed_factory_is_told_so(deps):
    tasks = []

    async def service(ctx):
        async def later():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return await ctx.aget_dependency("session")

        tasks.append(asyncio.create_task(later()))
        raise OSError("failed")

    deps.set_dependency("session", lambda: "session")
    deps.set_dependency("service", service)
    with pytest.raises(OSError, match="failed"):
        await opened(deps).aget_dependency("service")
    with pytest.raises(ConstructionFailedError, match="'service'"):
        await tasks[0]


async def test_a_diamond_is_no_cycle_even_when_built_concurrently(deps):
    async def base():
        await asyncio.sleep(0.01)
        return "base"

    async def side(ctx):
        return await ctx.aget_dependency("base")

    async def top(ctx):
        return await asyncio.gather(ctx.aget_dependency("left"), ctx.aget_dependency("right"))

    deps.set_dependency("base", base)
    deps.set_dependency("left", side)
    deps.set_dependency("right", side)
    deps.set_dependency("top", top)
    assert await opened(deps).aget_dependency("top") == ["base", "base"]


@pytest.mark.parametrize("singleton", [True, False])
async def test_two_tasks_that_wait_for_each_others_halves_of_a_cycle_do_not_hang(deps, singleton):
    meet = asyncio.Barrier(2)

    async def make(ctx, needs):
        await meet.wait()
        return await ctx.aget_dependency(needs)

    deps.set_dependency("a", lambda ctx: make(ctx, "b"), singleton=singleton)
    deps.set_dependency("b", lambda ctx: make(ctx, "a"), singleton=singleton)
    ctx = opened(deps)
    outcomes = await asyncio.wait_for(
        asyncio.gather(ctx.aget_dependency("a"), ctx.aget_dependency("b"), return_exceptions=True),
        5,
    )
    assert [type(outcome) for outcome in outcomes] == [DependencyCycleError] * 2
    assert outcomes[0].cycle in {("a", "b", "a"), ("b", "a", "b")}


def test_two_threads_that_wait_for_each_others_halves_of_a_cycle_do_not_hang(deps):
    meet = threading.Barrier(2)

    def make(ctx, needs):
        if meet.n_waiting < 2 and not meet.broken:
            meet.wait(5)
        return ctx.get_dependency(needs)

    deps.set_dependency("a", lambda ctx: make(ctx, "b"), singleton=True)
    deps.set_dependency("b", lambda ctx: make(ctx, "a"), singleton=True)
    outcomes = []

    def use(name):
        try:
            outcomes.append(deps.get(name))
        except DependencyCycleError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=use, args=(name,), daemon=True) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert outcomes == [DependencyCycleError] * 2


# The plain SDK's way ----------------------------------------------------


class SdkContext:
    """A context that knows dependencies by type, as the SDK's does."""

    def __init__(self, deps):
        self.deps = deps
        self.info = SimpleNamespace(id="sdk-1")

    def get_dependency(self, kind):
        assert kind is Dependencies
        return self.deps


async def test_get_gives_the_factory_ready_to_be_called_with_ctx(deps):
    log = []
    deps.set_dependency("thing", lambda ctx: Resource(log, ctx.info.id), singleton=False)

    async def durable_function():
        ctx = SdkContext(deps)
        thing = ctx.get_dependency(Dependencies).get("thing")(ctx)
        assert ctx.get_dependency(Dependencies).get("thing")(ctx) is thing
        assert log == []
        return thing.name

    assert await asyncio.create_task(durable_function()) == "sdk-1"
    await asyncio.sleep(0)
    assert log == ["sdk-1"]


async def test_async_closes_of_a_plain_sdk_function_are_awaited_by_aclose(deps):
    log = []

    async def make(ctx):
        return AsyncResource(log, ctx.info.id)

    deps.set_dependency("thing", make, singleton=False)

    async def durable_function():
        ctx = SdkContext(deps)
        await ctx.get_dependency(Dependencies).get("thing")(ctx)

    await asyncio.create_task(durable_function())
    await deps.aclose()
    assert log == ["sdk-1"]
    await asyncio.create_task(durable_function())
    await asyncio.sleep(0)
    assert log == ["sdk-1"]
    await deps.aclose()
    assert log == ["sdk-1"] * 2


async def test_a_failing_close_after_a_plain_sdk_function_reaches_the_loops_handler(deps):
    class Failing:
        def close(self):
            raise OSError("cannot close")

    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    deps.set_dependency("thing", Failing, singleton=False)

    async def durable_function():
        deps.get("thing")(SdkContext(deps))

    await asyncio.create_task(durable_function())
    await asyncio.sleep(0)
    assert [type(report["exception"]) for report in reports] == [DependencyCloseError]


async def test_the_factory_uses_the_container_opened_for_its_context(deps):
    log = []
    deps.set_dependency("thing", lambda ctx: Resource(log), singleton=False)
    ctx = SdkContext(deps)
    async with deps.container(ctx) as container:
        assert deps.get("thing")(ctx) is container.get("thing")
    assert log == ["resource"]


async def test_a_function_written_for_the_plain_sdk_works_with_our_context_and_its_copies(deps):
    deps.set_dependency("thing", lambda ctx: object(), singleton=False)
    ctx = opened(deps)
    async with ctx.container:
        found = ctx.get_dependency(Dependencies)
        assert found is deps
        assert found.get("thing")(ctx) is ctx.get_dependency("thing")
        assert found.get("thing")(copy.copy(ctx)) is ctx.get_dependency("thing")


def test_an_instance_made_outside_any_task_is_closed_with_the_application(deps):
    log = []
    deps.set_dependency("thing", lambda ctx=None: Resource(log), singleton=False)
    deps.get("thing")()
    deps.close()
    assert log == ["resource"]


def test_an_instance_is_closed_when_the_loop_is_torn_down_under_its_function(deps):
    log = []
    deps.set_dependency("thing", lambda: Resource(log), singleton=False)

    async def durable_function():
        deps.get("thing")()
        await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(durable_function())
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())
    assert log == ["resource"]


# The executor -----------------------------------------------------------


async def test_the_executor_of_an_execution_is_ready_to_use_and_closed_with_it(deps):
    ctx = opened(deps, "exec-5")
    async with ctx.container:
        executor = ctx.get_dependency("async_executor")
        assert isinstance(executor, AsyncExecutor)
        assert executor.execution_id == "exec-5"
        assert executor is ctx.get_dependency("async_executor")
        assert await executor.execute("await asyncio.sleep(0, 42)") == 42
    with pytest.raises(ExecutorClosedError):
        await executor.execute("1")


async def test_two_executions_share_no_namespace(deps):
    one, two = opened(deps, "one"), opened(deps, "two")
    async with one.container, two.container:
        await one.get_dependency("async_executor").execute("x = 1")
        with pytest.raises(NameError):
            await two.get_dependency("async_executor").execute("x")


@pytest.mark.parametrize(
    ("ctx", "expected"),
    [
        (None, "local-exec"),
        (SimpleNamespace(execution_id="ours"), "ours"),
        (SimpleNamespace(id="by id"), "by id"),
        (SimpleNamespace(id=lambda: "a method", info=SimpleNamespace(id="sdk")), "sdk"),
        (SimpleNamespace(execution_id=""), "local-exec"),
        (object(), "local-exec"),
    ],
)
async def test_the_factory_reads_the_execution_id_from_any_context(ctx, expected):
    executor = async_executor_factory(ctx)
    assert executor.execution_id == expected
    await executor.aclose()


async def test_the_factory_takes_namespace_and_execution_id_as_given():
    namespace = NamespaceManager()
    executor = async_executor_factory(None, namespace, execution_id="given")
    assert executor.namespace is namespace
    assert executor.execution_id == "given"
    await executor.aclose()


async def test_the_contracts_way_through_a_plain_sdk_gives_a_ready_executor():
    deps = Dependencies()
    deps.set_dependency("async_executor", async_executor_factory, singleton=False)

    async def durable_function():
        ctx = SdkContext(deps)
        executor = ctx.get_dependency(Dependencies).get("async_executor")(ctx)
        assert executor.execution_id == "sdk-1"
        return executor, await executor.execute("6 * 7")

    executor, value = await asyncio.create_task(durable_function())
    assert value == 42
    await deps.aclose()
    with pytest.raises(ExecutorClosedError):
        await executor.execute("1")


async def test_a_shared_executor_is_of_no_execution():
    deps = Dependencies()
    deps.set_dependency("async_executor", async_executor_factory, singleton=True)
    executor = opened(deps).get_dependency("async_executor")
    assert executor.execution_id == "local-exec"
    await deps.aclose()


def test_get_dependency_through_the_sdk_itself():
    from resonate.context import Context as SdkOwnContext
    from resonate.dependencies import DependencyMap

    deps = Dependencies()
    deps.set_dependency("who", lambda ctx: ctx.info.id, singleton=False)
    deps.set_dependency("settings", {"a": 1})
    known = DependencyMap()
    known.insert(deps)
    ctx = SdkOwnContext.root(
        id="exec-9", origin_id="exec-9", timeout_at=2**50, func_name="f", effects=None,
        target_resolver=None, deps=known,
    )  # fmt: skip

    async def durable_function():
        found = ctx.get_dependency(Dependencies)
        clone = ctx.options(target="elsewhere")
        made = found.get("who")(ctx)
        return made, found.get("settings"), found.container_for(clone).get("who") is made

    assert asyncio.run(durable_function()) == ("exec-9", {"a": 1}, True)
