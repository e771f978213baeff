"""Dying before or after the n-th durable operation, for tests of what survives it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Literal

import msgspec
from resonate_base import Network

__all__ = ["CrashInjector"]

#: Requests that change what is stored; reads and heartbeats are no boundaries.
_OPERATIONS = frozenset(
    {
        "promise.create",
        "promise.settle",
        "task.create",
        "task.acquire",
        "task.fence",
        "task.fulfill",
        "task.suspend",
        "task.release",
    }
)


class _Head(msgspec.Struct):
    kind: str


class CrashInjector:
    """Stops a process, or only its store, at one durable operation.

    Args:
        at: Which operation, from 1.
        when: ``before`` it reaches the store, or ``after`` the store has committed it
            and before its answer is seen.
        kill: True sends SIGKILL to this process. False leaves it alive and silent: no
            request is answered any more, as far as the store can tell it is dead.

    Attributes:
        operations: Durable operations seen so far.
        crashed: Set at the crash.
    """

    def __init__(
        self, at: int, when: Literal["before", "after"] = "after", *, kill: bool = False
    ) -> None:
        self.at = at
        self.when = when
        self.operations = 0
        self.crashed = asyncio.Event()
        self._kill = kill

    def __call__(self, network: Network) -> Network:
        """Put the injector between an app and its store: ``Durable(..., intercept=injector)``."""
        return _Injected(network, self)

    async def crash(self) -> None:
        """Die, or never answer again."""
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.crashed.set()
        await asyncio.Event().wait()


class _Injected:
    def __init__(self, inner: Network, injector: CrashInjector) -> None:
        self._inner = inner
        self._injector = injector

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        injector = self._injector
        if injector.crashed.is_set():
            await injector.crash()
        if msgspec.json.decode(req, type=_Head).kind not in _OPERATIONS:
            return await self._inner.send(req, headers)
        injector.operations += 1
        number = injector.operations
        if number == injector.at and injector.when == "before":
            await injector.crash()
        answer = await self._inner.send(req, headers)
        if injector.crashed.is_set() or (number == injector.at and injector.when == "after"):
            await injector.crash()
        return answer
