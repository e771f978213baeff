"""``__main__`` is the session's to a cell, and the host's to everybody else."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

import pytest

from executor import AsyncExecutor

pytestmark = pytest.mark.unit


async def test_sessions_at_the_same_time_each_find_their_own_classes() -> None:
    source = (
        "import pickle, __main__\n"
        "class Box: owner = {0!r}\n"
        "await asyncio.sleep(0)\n"
        "pickle.loads(pickle.dumps(Box())).owner, __main__.Box is Box"
    )
    async with AsyncExecutor() as first, AsyncExecutor() as second:
        found = await asyncio.gather(
            first.execute(source.format("first")), second.execute(source.format("second"))
        )
    assert found == [("first", True), ("second", True)]


async def test_the_host_sees_nothing_of_a_session_in_its_main_module() -> None:
    main = sys.modules["__main__"]
    names = dict(vars(main))
    async with AsyncExecutor() as executor:
        await executor.execute("import __main__\n__main__.of_the_cell = of_the_cell_too = 1")
        assert vars(main) == names
        assert not hasattr(main, "of_the_cell")
        assert not hasattr(main, "of_the_cell_too")


async def test_a_cell_finds_what_the_host_defines_where_the_session_has_no_such_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "of_the_host", 5, raising=False)
    async with AsyncExecutor() as executor:
        assert await executor.execute("import __main__\n__main__.of_the_host") == 5
        assert await executor.execute("of_the_host = 6\n__main__.of_the_host") == 6
        with pytest.raises(NameError):
            await executor.execute("del of_the_host\nof_the_host")


async def test_other_libraries_called_by_a_cell_find_the_dictionary_of_the_host() -> None:
    def asked_by_a_library() -> object:
        return vars(sys.modules["__main__"])

    async with AsyncExecutor() as executor:
        executor.namespace.update_namespace({"ask": asked_by_a_library})
        assert await executor.execute("ask() is globals()") is False
        assert await executor.execute("ask()") is asked_by_a_library()


async def test_a_host_that_has_made_its_main_module_something_else_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Special(ModuleType):
        pass

    own = Special("__main__")
    monkeypatch.setitem(sys.modules, "__main__", own)
    async with AsyncExecutor() as executor:
        assert await executor.execute("import __main__\n__main__") is own
    assert type(own) is Special
