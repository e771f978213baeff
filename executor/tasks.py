"""The tasks that cells start: kept alive, listed, cancelled at the end, and their failures told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

from executor.callbacks import release_callbacks
from executor.contained import ContainedCoroutine
from executor.runs import CURRENT_RUN, Run

__all__ = ["TaskRegistry", "unwatch", "watch"]

type _Factory = Callable[..., asyncio.Future[Any]]

# Rounds of the loop in which whoever waits for a failed task can take its exception.
_GRACE_ROUNDS = 3


class TaskRegistry:
    """The tasks of one session.

    Args:
        report: Called with a task that failed, its exception and its run, once for each task
            whose exception nobody took; and with a callback that raised what would stop the loop.
    """

    def __init__(self, report: Callable[[Any, BaseException, Run], None]) -> None:
        self._report = report
        self._tasks: dict[asyncio.Future[Any], Run] = {}
        self._failed: dict[asyncio.Future[Any], Run] = {}
        # Nothing here belongs to a cell, so its callbacks run in a context of no cell.
        self._context = Context()

    @property
    def pending(self) -> list[asyncio.Future[Any]]:
        """The tasks that have not ended, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def pending_of(self, run: Run) -> list[asyncio.Future[Any]]:
        """The tasks of one run that have not ended."""
        return [task for task, owner in self._tasks.items() if owner is run and not task.done()]

    def adopt(self, task: asyncio.Future[Any], run: Run) -> None:
        """Take in a task that was started on behalf of ``run``."""
        self._tasks[task] = run
        task.add_done_callback(self._on_done, context=self._context)

    def lose(self, callback: object, error: BaseException, run: Run) -> None:
        """Report what a callback of ``run`` raised and nobody can catch."""
        self._report(callback, error, run)

    def settle(self, run: Run) -> None:
        """Report the failures that ``run`` has not taken, now that it has ended."""
        if self._failed:
            for task in [each for each, owner in self._failed.items() if owner is run]:
                self._report_if_lost(task)

    def flush(self) -> None:
        """Report every failure that is left."""
        for task in list(self._tasks):
            if task.done():
                self._note_failure(task, self._tasks.pop(task))
        for task in list(self._failed):
            self._report_if_lost(task)

    def _on_done(self, task: asyncio.Future[Any]) -> None:
        run = self._tasks.pop(task, None)
        if run is not None and self._note_failure(task, run) and not run.is_active:
            self._check_later(task, _GRACE_ROUNDS)

    def _note_failure(self, task: asyncio.Future[Any], run: Run) -> bool:
        if task.cancelled() or not _is_unretrieved(task):
            return False
        self._failed[task] = run
        return True

    def _check_later(self, task: asyncio.Future[Any], rounds: int) -> None:
        if rounds:
            task.get_loop().call_soon(self._check_later, task, rounds - 1, context=self._context)
        else:
            self._report_if_lost(task)

    def _report_if_lost(self, task: asyncio.Future[Any]) -> None:
        run = self._failed.pop(task, None)
        if run is not None and _is_unretrieved(task):
            error = task.exception()
            assert error is not None  # only failed tasks come here
            self._report(task, error, run)


def _is_unretrieved(task: asyncio.Future[Any]) -> bool:
    """Whether nobody has asked for the exception: what asyncio itself goes by when it logs."""
    return bool(getattr(task, "_log_traceback", False))


class Task(asyncio.Task[Any]):
    """What a loop that sessions live on makes its tasks of, under the name that users know."""

    def get_coro(self) -> Any:
        """The coroutine that the cell made the task of."""
        coroutine = super().get_coro()
        return coroutine.contained_coroutine if type(coroutine) is ContainedCoroutine else coroutine

    if (3, 13) <= sys.version_info < (3, 13, 3):

        def set_name(self, value: object) -> None:
            """Keep the name: here every task that a factory made is told that it is None."""
            if value is not None:
                super().set_name(value)


class _Watch:
    """The task factory of one loop while sessions live on it."""

    def __init__(self, previous: _Factory | None) -> None:
        self.previous = previous
        self.users = 0

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Future[Any]:
        context = options.get("context")
        run = CURRENT_RUN.get() if context is None else context.get(CURRENT_RUN)
        code: Any = coro
        if run is not None and asyncio.iscoroutine(coro):
            code = ContainedCoroutine(coro)
        if self.previous is None:
            task: asyncio.Future[Any] = Task(code, loop=loop, **options)
        else:
            task = self.previous(loop, code, **options)
        if run is not None:
            run.owner.adopt(task, run)
        return task


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Learn of the tasks that are started on ``loop``, for one more session."""
    known = _watches.get(loop)
    previous: Any = loop.get_task_factory()
    if known is not None and previous is known:
        known.users += 1
        return
    fresh = _watches[loop] = _Watch(previous)
    fresh.users = 1 if known is None else known.users + 1
    loop.set_task_factory(fresh)


def unwatch(loop: asyncio.AbstractEventLoop) -> None:
    """Put the loop's own task factory back when its last session is closed."""
    known = _watches.get(loop)
    if known is None:
        return
    known.users -= 1
    if known.users == 0:
        del _watches[loop]
        release_callbacks(loop)
        current: Any = loop.get_task_factory()
        if current is known and not loop.is_closed():
            previous: Any = known.previous
            loop.set_task_factory(previous)
