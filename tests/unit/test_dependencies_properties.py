"""Random graphs of dependencies: built once, in order, closed in reverse; circles always found."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durable.dependencies import Dependencies
from durable.dependency_errors import CaptiveDependencyError, DependencyCycleError

pytestmark = pytest.mark.unit

SIZE = 6
NAMES = [f"d{number}" for number in range(SIZE)]

graphs = st.lists(
    st.lists(st.integers(0, SIZE - 1), max_size=3, unique=True), min_size=SIZE, max_size=SIZE
)
flags = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


class World:
    """A graph registered as async factories, and what happened to its instances."""

    def __init__(self, graph, singleton, concurrent, pauses):
        self.graph = graph
        self.singleton = singleton
        self.pauses = iter(pauses)
        self.built = []
        self.closed = []
        self.deps = Dependencies()
        for number, name in enumerate(NAMES):
            self.deps.set_dependency(
                name, self.factory(number, concurrent[number]), singleton=singleton[number]
            )

    def factory(self, number, concurrent):
        name, needs = NAMES[number], [NAMES[other] for other in self.graph[number]]

        async def make(ctx):
            for _ in range(next(self.pauses, 0)):
                await asyncio.sleep(0)
            if concurrent:
                await asyncio.gather(*map(ctx.aget_dependency, needs))
            else:
                for need in needs:
                    await ctx.aget_dependency(need)
            self.built.append(name)
            return Instance(name, self.closed)

        return make

    def reachable(self, start):
        found, pending = set(), [start]
        while pending:
            number = pending.pop()
            for other in self.graph[number]:
                if other not in found:
                    found.add(other)
                    pending.append(other)
        return found

    def on_a_cycle_below(self, start):
        return any(n in self.reachable(n) for n in self.reachable(start) | {start})

    def captive_below(self, start):
        return any(
            self.singleton[n] and not self.singleton[other]
            for n in self.reachable(start) | {start}
            for other in self.graph[n]
        )


class Instance:
    """What a factory of the world makes."""

    def __init__(self, name, closed):
        self.name = name
        self.closed = closed

    async def aclose(self):
        self.closed.append(self.name)


@settings(max_examples=150, deadline=None)
@given(
    graph=graphs,
    singleton=flags,
    concurrent=flags,
    pauses=st.lists(st.integers(0, 3), max_size=SIZE),
    asked=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=4),
)
@example(  # each failed gather left a construction behind that failed in turn, without end
    graph=[[4, 0, 3], [], [4, 2, 0], [5, 4, 3], [3, 1], [3, 2, 4]],
    singleton=[True] * SIZE,
    concurrent=[True, False, True, True, False, True],
    pauses=[1, 0, 1],
    asked=[4, 4, 0],
)
def test_a_graph_resolves_exactly_when_it_has_no_circle_and_no_captive(
    graph, singleton, concurrent, pauses, asked
):
    async def main():
        world = World(graph, singleton, concurrent, pauses)
        container = world.deps.container()
        outcomes = await asyncio.wait_for(
            asyncio.gather(
                *(container.aget(NAMES[number]) for number in asked), return_exceptions=True
            ),
            10,
        )
        for number, outcome in zip(asked, outcomes, strict=True):
            faulty = world.on_a_cycle_below(number) or world.captive_below(number)
            if faulty:
                assert isinstance(outcome, DependencyCycleError | CaptiveDependencyError)
            else:
                assert outcome.name == NAMES[number]
            if isinstance(outcome, DependencyCycleError):
                steps = [int(name[1:]) for name in outcome.cycle]
                assert steps[0] == steps[-1]
                pairs = itertools.pairwise(steps)
                assert all(later in graph[earlier] for earlier, later in pairs)
        while len(asyncio.all_tasks()) > 1:  # what gather in a failed factory left behind
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=10)
        assert len(world.built) == len(set(world.built))
        shared = [name for name in world.built if singleton[int(name[1:])]]
        own = [name for name in world.built if name not in shared]
        await container.aclose()
        assert world.closed == own[::-1]
        await world.deps.aclose()
        assert world.closed == own[::-1] + shared[::-1]

    asyncio.run(main())
