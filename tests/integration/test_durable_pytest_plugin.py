"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import durable

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.integration

PROGRAM = """
    import pytest

    async def double(x):
        return 2 * x

    async def program(ctx, n):
        first = await ctx.run(double, n)
        await ctx.sleep(3600)
        return await ctx.run(double, first)
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runs import what this one does, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(Path(durable.__file__).parents[1]))


def run(pytester: Any, test: str, *options: str) -> Any:
    pytester.makepyfile(textwrap.dedent(PROGRAM) + textwrap.dedent(test))
    installed = any(point.name == "sostenuto" for point in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "durable.pytest_plugin")
    return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "-W", "error", *options)


def test_pytest_finds_it_by_its_entry_point() -> None:
    project = Path(durable.__file__).parents[1] / "pyproject.toml"
    points = tomllib.loads(project.read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"sostenuto": "durable.pytest_plugin"}


def test_loading_it_imports_nothing_of_the_engine() -> None:
    check = (
        "import sys, durable.pytest_plugin\n"
        "print(sorted({'resonate', 'executor', 'store', 'durable.runtime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(durable.__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"


def test_the_fixtures_work_under_pytest_asyncio(pytester: Any) -> None:
    result = run(
        pytester,
        """
        import asyncio

        async def test_an_hour_passes_at_once(durable_app, durable_clock):
            async with durable_app(program, clock=durable_clock) as app:
                handle = app.run("x", program, 1)
                while not await handle.done():
                    durable_clock.advance(60)
                    await asyncio.sleep(0.005)
                assert await handle == 4

        async def test_a_crash_is_resumed(durable_app, crash_injector):
            async def quick(ctx):
                return [await ctx.run(double, 1), await ctx.run(double, 2)]
            injector = crash_injector(3, "after")
            app = durable_app(quick, intercept=injector)
            await app.start()
            app.run("x", quick)
            await injector.crashed.wait()
            await app.abandon()
            async with durable_app(quick) as app:
                assert await app.run("x", quick) == [2, 4]

        async def test_histories_replay(durable_app, replayer):
            async def quick(ctx):
                return await ctx.run(double, 1)
            async with durable_app(quick) as app:
                await app.run("x", quick)
                (report,) = await replayer.check(app)
            assert report.identical
        """,
        "-o",
        "asyncio_mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    )
    result.assert_outcomes(passed=3)


def test_the_fixtures_work_in_plain_tests(pytester: Any) -> None:
    result = run(
        pytester,
        """
        import asyncio

        async def quick(ctx):
            return await ctx.run(double, 1)

        async def changed(ctx):
            return await ctx.run(double, 2)

        def test_plain(durable_app, replayer):
            async def main():
                async with durable_app(quick) as app:
                    return await app.run("x", quick)
            assert asyncio.run(main()) == 2
            assert len(replayer(durable_app(quick))) == 1

        def test_a_divergence_fails_the_test(durable_app, replayer):
            async def main():
                async with durable_app(quick) as app:
                    await app.run("x", quick)
            asyncio.run(main())
            app = durable_app()
            app.register(changed, name="quick")
            replayer(app)

        def test_no_history_fails_the_test(durable_app, replayer, tmp_path):
            (tmp_path / "histories").mkdir()
            replayer(durable_app(quick), histories=tmp_path / "histories")

        def test_an_app_left_open(durable_app):
            async def main():
                await durable_app(quick).start()
            asyncio.run(main())
        """,
        "-p",
        "no:asyncio",
        "-W",
        "ignore::ResourceWarning",
        "-W",
        "ignore::pytest.PytestUnraisableExceptionWarning",
    )
    result.assert_outcomes(passed=2, failed=2, errors=1)
    result.stdout.fnmatch_lines(["*was left open*", "*arguments at x:1*", "*0 recorded histories*"])


def test_the_fixtures_work_under_anyio(pytester: Any) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_it(durable_app):
            async def quick(ctx):
                return await ctx.run(double, 1)
            async with durable_app(quick) as app:
                assert await app.run("x", quick) == 2
        """,
        "-p",
        "no:asyncio",
    )
    result.assert_outcomes(passed=1)
