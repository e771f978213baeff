"""Starting executions: the same id is the same execution, or a typed error."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from resonate.error import ServerError
from resonate.resonate import Resonate
from resonate.timing import Clock
from resonate.types import PromiseRecord, Value

from durable.creation import NewExecution, create_execution
from durable.errors import ExecutionMismatchError, NotRegisteredError
from durable.guards import engine_errors
from durable.handles import Handle
from durable.records import SOURCE_FUNCTION
from durable.registry import Registry
from durable.values import ValueCodec, same_json

__all__ = ["FOREVER", "LaunchHost", "Launcher", "Launches", "check_same"]

#: Deadline of executions and promises that name none: a hundred years, as engines
#: keep a deadline for everything.
FOREVER = timedelta(days=36_500)

#: Status of a request that is well formed and cannot be applied to what is stored.
_UNPROCESSABLE = 422


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


class Launches:
    """Creates executions and promises in the background.

    Args:
        registry: The functions that are known here.
        values: Codec of typed values.
        clock: Wall clock in milliseconds since the epoch.
    """

    def __init__(self, registry: Registry, values: ValueCodec, clock: Clock) -> None:
        self._registry = registry
        self._values = values
        self._clock = clock
        self._under_way: set[asyncio.Task[None]] = set()

    def execution(
        self,
        engine: Resonate,
        launcher: Launcher,
        id: str,
        fn: str | Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        here: bool,
    ) -> asyncio.Task[None]:
        """Create an execution, or find it; see :meth:`durable.Durable.run`.

        Returns:
            A task that ends when the execution is recorded, or with what refuses it.
        """
        name, version = self._registry.name_of(fn, launcher.version)
        entry = self._registry.find(name, version)
        if entry is not None:
            self._registry.check_arity(entry, args, kwargs)
        elif here:
            raise NotRegisteredError(self._registry.unknown(name, version))
        encode = self._values.encode
        new = NewExecution(
            id=id,
            name=name,
            version=version,
            args=tuple(
                encode(value, where=f"argument {position} of {name}")
                for position, value in enumerate(args, 1)
            ),
            kwargs={
                key: encode(value, where=f"argument {key} of {name}")
                for key, value in kwargs.items()
            },
            timeout=launcher.timeout or (entry.timeout if entry is not None else None) or FOREVER,
            target=launcher.target,
        )
        return self._begin(self._create(engine, new, here=here), f"launch {id}")

    async def _create(self, engine: Resonate, new: NewExecution, *, here: bool) -> None:
        with engine_errors(new.id):
            try:
                record = await create_execution(engine, new, here=here)
            except ServerError as refused:
                if refused.code == _UNPROCESSABLE:
                    # A plain promise may have the id: say so.
                    self._check(await engine.promises.get(new.id), new)
                raise
            self._check(record if record is not None else await engine.promises.get(new.id), new)

    def _check(self, record: PromiseRecord, new: NewExecution) -> None:
        check_same(
            record,
            name=new.name,
            version=new.version,
            args=list(new.args),
            kwargs=new.kwargs,
            values=self._values,
        )

    def promise(self, engine: Resonate, id: str, limit: timedelta) -> asyncio.Task[None]:
        """Create a promise that anybody settles, or find it.

        Returns:
            A task that ends when the promise is recorded, or with what refuses it.
        """

        async def create() -> None:
            with engine_errors(id):
                if ":" in id:
                    await engine.promises.get(id)
                    return
                deadline_ms = self._clock() + round(limit.total_seconds() * 1000)
                tags = {
                    "resonate:scope": "global",
                    "resonate:origin": id,
                    "resonate:branch": id,
                    "resonate:parent": id,
                    "resonate:external": "true",
                }
                await engine.promises.create(id, deadline_ms, Value(), tags)

        return self._begin(create(), f"promise {id}")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def cancel(self) -> list[asyncio.Task[None]]:
        """Cancel what is under way, and return it."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        return under_way
