"""What ``__main__`` is to the code of a cell: the session's own namespace.

A class of a cell says that its module is ``__main__``, and :mod:`pickle`, :mod:`typing` and
:mod:`dataclasses` look there for it and for what its annotations name. Several sessions live in one
process, so nothing is put in the place of the host's module: it is taught to answer to each cell
from the cell's session, and from its own names where the session has none. To the host it is what
it always was.
"""

from __future__ import annotations

import linecache
import sys
from types import FrameType, FunctionType, ModuleType
from typing import Any

from executor import names
from executor.runs import Run, current_run

__all__ = ["share_main"]

# They evaluate annotations in the module's dictionary, or list what it defines. Other libraries
# that ask for the dictionary mean the program's, also while a cell waits for them.
_READERS = frozenset(
    {"annotationlib", "dataclasses", "doctest", "inspect", "typing", "typing_extensions"}
)


_CELLS = "<sostenuto "


class _SharedMain(ModuleType):
    """The class of ``__main__`` while the process has sessions."""

    def __getattribute__(self, name: str) -> Any:
        run = current_run()
        if run is not None:
            if name == "__dict__":
                asking = sys._getframe(1).f_globals  # noqa: SLF001  # who asks decides whose it is
                if asking is run.namespace or asking.get("__name__") in _READERS:
                    return run.namespace
            elif not _is_special(name) and name in run.namespace:
                return run.namespace[name]
            elif name == "__file__":
                file = _file_asked_for(sys._getframe(1), run)  # noqa: SLF001  # as above
                if file is not None:
                    return file
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        run = current_run()
        if run is None or _is_special(name):
            super().__setattr__(name, value)
        else:
            run.namespace[name] = value

    def __delattr__(self, name: str) -> None:
        run = current_run()
        if run is not None and not _is_special(name) and name in run.namespace:
            del run.namespace[name]
        else:
            super().__delattr__(name)


def _file_asked_for(asking: FrameType, run: Run) -> str | None:
    """The cell that a class was defined in, where :mod:`inspect` looks for the file of the class.

    Unlike a function, a class does not know its file: its module's is taken for it.
    """
    if asking.f_globals.get("__name__") != "inspect":
        return None
    cls = asking.f_locals.get("object")
    if not isinstance(cls, type) or names.class_module(cls) != "__main__":
        return None
    for value in names.own_attributes(cls).values():
        # What decorators have put there may be of another file; a name of its own is not.
        if type(value) is FunctionType and value.__qualname__.startswith(f"{cls.__qualname__}."):
            file = value.__code__.co_filename
            if file.startswith(_CELLS):
                return file
    if any(value is cls for value in run.namespace.values()):
        return _file_with_class(cls.__name__, f"{_CELLS}{run.execution_id} ")
    return None


def _file_with_class(name: str, session: str) -> str | None:
    """The newest cell of a session that has a statement beginning such a class."""
    for file in reversed(list(linecache.cache)):
        if file.startswith(session):
            for line in linecache.getlines(file):
                words = line.replace("(", " ").replace(":", " ").replace("[", " ").split(None, 2)
                if words[:2] == ["class", name]:
                    return file
    return None


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def share_main() -> None:
    """Let ``__main__`` answer to cells; a host that made something else of it is left alone."""
    main = sys.modules.get("__main__")
    if type(main) is ModuleType:
        main.__class__ = _SharedMain
