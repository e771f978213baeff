"""Fixtures for tests of durable code; loaded by pytest through its entry point.

Plain fixtures that give objects, so they work in plain tests as well as under
pytest-asyncio, anyio or any other runner. Nothing of this package is imported before a
fixture is used.

``durable_clock``: a wall clock that stands still until the test moves it.
``durable_app``: makes apps on a temporary database; the same database in each call, as
other processes of the same machine would open it.
``crash_injector``: makes injectors that die at the n-th durable operation.
``replayer``: replays recorded histories and fails where code and history differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable.crashes import CrashInjector
    from durable.replay import ReplayReport
    from durable.runtime import Durable
    from durable.testing import ManualClock

__all__ = ["Replayer", "crash_injector", "durable_app", "durable_clock", "replayer"]


@pytest.fixture
def durable_clock() -> ManualClock:
    """A clock for ``durable_app(clock=...)``: ``clock.advance(seconds)`` moves it.

    Returns:
        A :class:`durable.testing.ManualClock`; give an app its ``sleep`` as well.
    """
    from durable.testing import ManualClock

    return ManualClock()


@pytest.fixture
def durable_app(tmp_path: Path) -> Iterator[Callable[..., Durable]]:
    """Make apps on one temporary database: ``durable_app(*functions, clock=..., ...)``.

    The functions are registered. Options are those of :class:`durable.Durable`; with
    ``clock=`` a :class:`~durable.testing.ManualClock`, its sleeper is used too, unless
    one is given. Open an app with ``async with``; one that is still open when the test
    ends fails the test, as its loop is gone and nobody else can close it.
    """
    from durable.runtime import Durable
    from durable.testing import ManualClock

    made: list[Durable] = []

    def make(*functions: Callable[..., Any], **options: Any) -> Durable:
        clock = options.get("clock")
        if isinstance(clock, ManualClock):
            options.setdefault("sleeper", clock.sleep)
        url = options.pop("url", tmp_path / "durable.db")
        app = Durable(url, **options)
        for function in functions:
            app.register(function)
        made.append(app)
        return app

    yield make
    left_open = [app for app in made if app.is_open]
    if left_open:
        pytest.fail(f"{left_open[0]!r} was left open: use it in 'async with app:'", pytrace=False)


@pytest.fixture
def crash_injector() -> Callable[..., CrashInjector]:
    """Make injectors: ``durable_app(f, intercept=crash_injector(3, "before"))``.

    Returns:
        The class :class:`durable.testing.CrashInjector`. ``await injector.crashed.wait()``
        tells when it has happened; then ``await app.abandon()`` drops the app as death would.
    """
    from durable.crashes import CrashInjector

    return CrashInjector


class Replayer:
    """Replays recorded histories, and fails the test where code and history differ."""

    def __call__(
        self,
        source: Any,
        *,
        histories: str | Path | None = None,
        name: str | None = None,
        at_least: int = 1,
    ) -> list[ReplayReport]:
        """Replay everything that ``source`` has recorded, outside an event loop.

        Args:
            source: An app whose functions are the code, a database, or a directory of
                exported histories of source.
            histories: A directory of exported histories for the app's functions.
            name: Only executions of this function.
            at_least: How many there must be, so that an empty directory fails.
        """
        from durable.testing import replay_all

        found: list[ReplayReport] = _sync(replay_all, source, histories=histories, name=name)
        return self._checked(found, at_least)

    async def check(
        self,
        source: Any,
        *,
        histories: str | Path | None = None,
        name: str | None = None,
        at_least: int = 1,
    ) -> list[ReplayReport]:
        """The same where an event loop runs: ``await replayer.check(app)``."""
        from durable.testing import areplay_all

        directory = _directory(source if histories is None else histories)
        return self._checked(await areplay_all(source, name, directory), at_least)

    def _checked(self, reports: list[ReplayReport], at_least: int) -> list[ReplayReport]:
        if len(reports) < at_least:
            pytest.fail(
                f"{len(reports)} recorded histories were found and at least {at_least} expected: "
                "check the directory or database, and name=",
                pytrace=False,
            )
        diverged = [str(report) for report in reports if not report.identical]
        if diverged:
            text = "\n".join(diverged)
            pytest.fail(
                f"{len(diverged)} of {len(reports)} recorded executions diverge:\n{text}",
                pytrace=False,
            )
        return reports


def _directory(place: Any) -> Path | None:
    if isinstance(place, (str, Path)) and Path(place).is_dir():
        return Path(place)
    return None


def _sync(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result = work(*args, **kwargs)
    if hasattr(result, "__await__"):
        result.close()
        msg = "the replayer was called where an event loop runs: use 'await replayer.check(...)'"
        raise RuntimeError(msg)
    return result


@pytest.fixture
def replayer() -> Replayer:
    """Replay histories: ``replayer(app, histories="tests/histories")``.

    In an async test: ``await replayer.check(app)``.
    """
    return Replayer()
