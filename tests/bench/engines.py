"""One adapter for each engine, used as its documentation shows it.

Each runs in a process of its own. ``run`` starts an execution under an id and awaits its result;
``attach`` awaits one that an earlier process began. What an engine is not asked, because its
documentation offers nothing of the kind, is missing from its ``kinds``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import work

EVERY_RATE = ("sequence", "fan_out", "one")


class Engine:
    """What a worker asks of an engine."""

    kinds: tuple[str, ...] = (*EVERY_RATE, "resuming", "single", "chains")

    async def open(self, directory: Path) -> None:
        raise NotImplementedError

    async def run(self, kind: str, id: str, count: int) -> Any:
        raise NotImplementedError

    async def attach(self, kind: str, id: str, count: int) -> Any:
        return await self.run(kind, id, count)

    async def close(self) -> None:
        raise NotImplementedError


class DurableShim(Engine):
    """This project's durable executions on its SQLite store."""

    def __init__(self, synchronous: str = "normal") -> None:
        self.synchronous = synchronous

    async def open(self, directory: Path) -> None:
        from durable import Durable

        self.app = Durable(directory / "durable.db", synchronous=self.synchronous)

        async def sequence(ctx: Any, count: int) -> int:
            return await work.in_sequence(lambda n: ctx.run(work.nothing, n), count)

        async def fan_out(ctx: Any, count: int) -> int:
            return await work.at_once(lambda n: ctx.run(work.nothing, n), count)

        async def one(ctx: Any, count: int) -> int:
            return await ctx.run(work.nothing, count)

        async def resuming(ctx: Any, count: int) -> int:
            return await work.in_sequence(lambda n: ctx.run(work.probe, n), count)

        async def single(ctx: Any, count: int) -> list[str]:
            return await work.single(lambda name: ctx.run(work.ask, name))

        async def chains(ctx: Any, count: int) -> list[str]:
            return await work.chains(lambda name: ctx.run(work.ask, name))

        for function in (sequence, fan_out, one, resuming, single, chains):
            self.app.register(function)
        await self.app.start()

    async def run(self, kind: str, id: str, count: int) -> Any:
        return await self.app.run(id, kind, count)

    async def close(self) -> None:
        await self.app.close()


class Sdk(Engine):
    """The bare SDK on a connection."""

    kinds = (*EVERY_RATE, "resuming", "single", "chains", "children")

    def connection(self, directory: Path) -> Any:
        raise NotImplementedError

    async def open(self, directory: Path) -> None:
        from resonate.resonate import Resonate

        async def nothing(ctx: Any, n: int) -> int:
            return await work.nothing(n)

        async def probe(ctx: Any, n: int) -> int:
            return await work.probe(n)

        async def ask(ctx: Any, name: str) -> str:
            return await work.ask(name)

        async def sequence(ctx: Any, count: int) -> int:
            return await work.in_sequence(lambda n: ctx.run(nothing, n), count)

        async def fan_out(ctx: Any, count: int) -> int:
            return await work.at_once(lambda n: ctx.run(nothing, n), count)

        async def one(ctx: Any, count: int) -> int:
            return await ctx.run(nothing, count)

        async def resuming(ctx: Any, count: int) -> int:
            return await work.in_sequence(lambda n: ctx.run(probe, n), count)

        async def single(ctx: Any, count: int) -> list[str]:
            return await work.single(lambda name: ctx.run(ask, name))

        async def chains(ctx: Any, count: int) -> list[str]:
            return await work.chains(lambda name: ctx.run(ask, name))

        async def branch(ctx: Any, number: int) -> list[str]:
            return await work.branch(lambda name: ctx.run(ask, name), number)

        async def children(ctx: Any, count: int) -> list[str]:
            calls = [ctx.run(branch, number) for number in range(work.BRANCHES)]
            return [each for wrong in await asyncio.gather(*calls) for each in wrong]

        self.resonate = Resonate(
            network=self.connection(directory), group="default", max_concurrent_tasks=100_000
        )
        leaves = (nothing, probe, ask, branch)
        for function in (*leaves, sequence, fan_out, one, resuming, single, chains, children):
            self.resonate.register(function, name=function.__name__)

    async def run(self, kind: str, id: str, count: int) -> Any:
        return await self.resonate.run(id, kind, count).result()

    async def close(self) -> None:
        await self.resonate.stop()


class SdkOnStore(Sdk):
    """The bare SDK on this project's SQLite store."""

    def __init__(self, synchronous: str = "normal") -> None:
        self.synchronous = synchronous

    def connection(self, directory: Path) -> Any:
        from store import SqliteConnection

        return SqliteConnection(directory / "store.db", synchronous=self.synchronous)


class SdkInMemory(Sdk):
    """The SDK's own local mode, which forgets everything; optionally without its preload."""

    kinds = EVERY_RATE

    def __init__(self, emptied: bool = False) -> None:
        self.emptied = emptied

    def connection(self, directory: Path) -> Any:
        from resonate.connections import LocalConnection

        connection = LocalConnection()
        if self.emptied:
            connection.state.preload = lambda *_: []
        return connection


class SdkOnPostgres(Sdk):
    """The bare SDK on resonate-pg's schema, in the database that ``BENCH_POSTGRES`` names."""

    def connection(self, directory: Path) -> Any:
        from resonate_pg import PostgresConnection

        return PostgresConnection(os.environ["BENCH_POSTGRES"], None, "default")

    async def open(self, directory: Path) -> None:
        # The database outlives the directory, so ids are told apart by it.
        self.prefix = directory.name
        await super().open(directory)
        self.timers = asyncio.create_task(self.fire_timers())

    async def fire_timers(self) -> None:
        """Do what pg_cron does where it is installed: fire due timers every five seconds."""
        import psycopg

        address = os.environ["BENCH_POSTGRES"]
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
            while True:
                await connection.execute("SELECT resonate.process_timeouts()")
                await asyncio.sleep(5)

    async def run(self, kind: str, id: str, count: int) -> Any:
        return await super().run(kind, f"{self.prefix}-{id}", count)

    async def close(self) -> None:
        self.timers.cancel()
        await super().close()


class Dbos(Engine):
    """DBOS Transact on its SQLite system database."""

    kinds = (*EVERY_RATE, "resuming", "single", "chains", "children")

    async def open(self, directory: Path) -> None:
        # Its SQLite needs features that many a system's library lacks.
        if importlib.util.find_spec("pysqlite3"):
            sys.modules["sqlite3"] = __import__("pysqlite3")
        from dbos import DBOS, SetWorkflowID

        self.dbos, self.set_id = DBOS, SetWorkflowID
        url = f"sqlite:///{directory / 'dbos.sqlite'}"
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "CRITICAL"})
        nothing, probe, ask = (DBOS.step()(each) for each in (work.nothing, work.probe, work.ask))

        @DBOS.workflow()
        async def sequence(count: int) -> int:
            return await work.in_sequence(nothing, count)

        @DBOS.workflow()
        async def fan_out(count: int) -> int:
            return await work.at_once(nothing, count)

        @DBOS.workflow()
        async def one(count: int) -> int:
            return await nothing(count)

        @DBOS.workflow()
        async def resuming(count: int) -> int:
            return await work.in_sequence(probe, count)

        @DBOS.workflow()
        async def single(count: int) -> list[str]:
            return await work.single(ask)

        @DBOS.workflow()
        async def chains(count: int) -> list[str]:
            return await work.chains(ask)

        @DBOS.workflow()
        async def branch(number: int) -> list[str]:
            return await work.branch(ask, number)

        @DBOS.workflow()
        async def children(count: int) -> list[str]:
            # As its documentation advises for branches of several steps: started in a fixed order.
            handles = [
                await DBOS.start_workflow_async(branch, number) for number in range(work.BRANCHES)
            ]
            found = await asyncio.gather(*(handle.get_result() for handle in handles))
            return [each for wrong in found for each in wrong]

        functions = (sequence, fan_out, one, resuming, single, chains, children)
        self.workflows = {function.__name__: function for function in functions}
        DBOS.launch()

    async def run(self, kind: str, id: str, count: int) -> Any:
        with self.set_id(id):
            return await self.workflows[kind](count)

    async def attach(self, kind: str, id: str, count: int) -> Any:
        # Launching has already taken up what was under way.
        handle = await self.dbos.retrieve_workflow_async(id)
        return await handle.get_result()

    async def close(self) -> None:
        self.dbos.destroy()


def _restate() -> Engine:
    # Its decorators read annotations from its module's names, so the SDK is imported there.
    from engine_restate import Restate

    return Restate()


ENGINES: dict[str, Any] = {
    "durable": DurableShim,
    "durable full": lambda: DurableShim("full"),
    "store": SdkOnStore,
    "store full": lambda: SdkOnStore("full"),
    "memory": SdkInMemory,
    "memory emptied": lambda: SdkInMemory(emptied=True),
    "dbos": Dbos,
    "restate": _restate,
    "resonate-pg": SdkOnPostgres,
}
