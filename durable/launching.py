"""Starting executions: the same id is the same execution, or a typed error."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from resonate.types import PromiseRecord

from durable.errors import ExecutionMismatchError
from durable.handles import Handle
from durable.records import SOURCE_FUNCTION
from durable.values import ValueCodec, same_json

__all__ = ["LaunchHost", "Launcher", "check_same"]


_OTHER = {
    "function": "another function",
    "version": "another version",
    "arguments": "other arguments",
    "source": "other source",
}


def check_same(
    record: PromiseRecord,
    *,
    name: str,
    version: int,
    args: list[Any],
    kwargs: Mapping[str, Any],
    values: ValueCodec,
) -> None:
    """Compare an existing execution with what was asked for under its id.

    Raises:
        ExecutionMismatchError: Another function, version, arguments or source.
    """
    recorded = record.param.data
    if not isinstance(recorded, dict) or "func" not in recorded:
        _mismatch(record.id, "function", "a plain durable promise", f"function {name!r}")
        return
    if recorded["func"] != name:
        _mismatch(record.id, "function", f"function {recorded['func']!r}", f"{name!r}")
    if int(recorded.get("version", 1)) != version:
        _mismatch(
            record.id, "version", f"version {recorded.get('version', 1)} of {name!r}", f"{version}"
        )
    old_args, old_kwargs = list(recorded.get("args") or ()), dict(recorded.get("kwargs") or {})
    if name == SOURCE_FUNCTION:
        if old_kwargs.get("source") != kwargs.get("source"):
            _mismatch(record.id, "source", *_first_difference(old_kwargs, kwargs))
        return
    if same_json([old_args, old_kwargs], [args, dict(kwargs)]):
        return
    # Encodings of one value may differ, pickles for one; digests are of the values.
    if _digest(values, old_args, old_kwargs) != _digest(values, args, kwargs):
        _mismatch(record.id, "arguments", _shown(old_args, old_kwargs), _shown(args, kwargs))


def _digest(values: ValueCodec, args: list[Any], kwargs: Mapping[str, Any]) -> str:
    return values.digest(
        tuple(values.decode(value) for value in args),
        {key: values.decode(value) for key, value in kwargs.items()},
    )


def _shown(args: list[Any], kwargs: Mapping[str, Any]) -> str:
    parts = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    text = ", ".join(parts)
    return f"({text[:200]}{'...' if len(text) > 200 else ''})"


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str]:
    old_lines = str(old.get("source", "")).splitlines()
    new_lines = str(new.get("source", "")).splitlines()
    for tag, i1, i2, j1, j2 in (
        difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False).get_opcodes()
        if max(len(old_lines), len(new_lines)) < 2000
        else ()
    ):
        if tag != "equal":
            was = old_lines[i1].strip() if i1 < i2 else "(nothing)"
            now = new_lines[j1].strip() if j1 < j2 else "(nothing)"
            return f"source whose line {i1 + 1} is {was!r}", f"{now!r} at line {j1 + 1}"
    return "other source", "the new one"


def _mismatch(execution_id: str, what: str, recorded: str, asked: str) -> None:
    msg = (
        f"execution {execution_id!r} exists with {_OTHER[what]}: recorded {recorded}, asked for "
        f"{asked}. An id means the same execution for ever: use another id"
    )
    raise ExecutionMismatchError(msg, execution_id=execution_id, what=what)


class LaunchHost(Protocol):
    """What a launcher needs of its app."""

    def launch(
        self,
        launcher: Launcher,
        id: str,
        fn: str | Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        here: bool,
    ) -> Handle[Any]:
        """Start an execution and return its handle."""
        ...


class Launcher:
    """Options bound to an app, for one start."""

    def __init__(
        self, app: LaunchHost, timeout: timedelta | None, target: str | None, version: int
    ) -> None:
        self._app = app
        self.timeout = timeout
        self.target = target
        self.version = version

    def run(
        self, id: str, fn: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """See :meth:`Durable.run`."""
        return self._app.launch(self, id, fn, args, kwargs, here=True)

    def rpc(
        self, id: str, fn: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """See :meth:`Durable.rpc`."""
        return self._app.launch(self, id, fn, args, kwargs, here=False)
