"""``ctx``: what source and functions call to make a step durable."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import msgspec
from resonate.context import Opts, ResonateFuture
from resonate.error import ApplicationError, PlatformError
from resonate.types import PromiseRecord

from durable.activation import Activation, Execution, StepCall
from durable.calls import function_name, shape_of
from durable.engine import STEP, StepMeta
from durable.errors import (
    ExecutionOverError,
    ForeignContextError,
    InvalidArgumentError,
)
from durable.outcomes import record_error
from durable.retries import RetryPolicy, retry_policy
from durable.scopes import Scope, current_scope

__all__ = ["DurableContext", "StepFuture"]

#: A year of milliseconds times a hundred: beyond it, a duration is a mistake in units.
_SLEEP_MAX = timedelta(days=36_500)

_KEY = re.compile(r"[^\x00-\x1f:]{1,200}")


class StepFuture[T](Coroutine[Any, Any, T]):
    """The result of a durable operation that has been started.

    Await it, any number of times, or pass it to ``gather``, ``wait_for``,
    ``TaskGroup.create_task`` or ``as_completed``: it is a coroutine to all of them.

    Attributes:
        id: The durable promise id, by which other processes see and settle it.
    """

    def __init__(
        self, promise_id: str, future: ResonateFuture[Any], read: Callable[[Any], T], run: Execution
    ) -> None:
        self.id = promise_id
        self._future = future
        self._read = read
        self._run = run
        self._driver: Generator[Any, Any, T] | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        failed: PromiseRecord | None = None
        try:
            outcome = await self._future
        except ApplicationError:
            failed = self._run.effects.known(self.id)
            if failed is None or failed.state == "pending":
                raise
        except PlatformError as error:
            self._run.failed(error.cause)
            raise
        if failed is not None:
            # Outside the handler: the error keeps the cause and context it was recorded with.
            raise self._run.step_error(failed)
        if isinstance(outcome, PromiseRecord) and outcome.state != "resolved":
            raise record_error(outcome, self._run.values, self._run.namespace)
        return self._read(outcome.value.data if isinstance(outcome, PromiseRecord) else outcome)

    # A coroutine to asyncio: each driver below serves ``create_task`` and its like.

    @property
    def __name__(self) -> str:
        return "step"

    def send(self, value: Any) -> Any:
        """Drive the wait, as an event loop does."""
        if self._driver is None:
            self._driver = self.__await__()
        return self._driver.send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,  # noqa: ARG002 - the protocol's old form
        tb: TracebackType | None = None,
    ) -> Any:
        """Raise inside the wait, as an event loop does to cancel."""
        if self._driver is None:
            self._driver = self.__await__()
        error = typ if isinstance(typ, BaseException) else typ()
        return self._driver.throw(error.with_traceback(tb) if tb is not None else error)

    def close(self) -> None:
        """Stop driving the wait; the step itself goes on."""
        if self._driver is not None:
            self._driver.close()

    def done(self) -> bool:
        """Return whether the operation has ended."""
        return self._future._task.done()  # noqa: SLF001 - the SDK's future has no public done()


class _Parked:
    """What an operation waits for that is refused again and again: nothing that ever comes.

    A loop such as ``while True: try: await ctx.run(f) except BaseException: pass`` would
    otherwise hold the event loop, as a refusal that is raised at once never lets it go.
    """

    def __init__(self) -> None:
        self._task = self  # asked for its done() in place of a step's task

    def done(self) -> bool:
        return False

    def __await__(self) -> Generator[Any, Any, Any]:
        while True:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # closed by the collector, which such code refuses as well
                yield
            else:
                yield from loop.create_future()


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the next operation; see :meth:`DurableContext.options`."""

    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    key: str | None = None
    target: str | None = None
    version: int = 1


_NO_OPTIONS = StepOptions()

#: Refused operations after which code is taken to go on regardless, and is parked: more
#: than any cleanup asks for, few enough that nobody notices the time.
_REFUSALS_MAX = 100


class DurableContext:
    """The durable context of one execution.

    In a step it stands for that step: what is called there nests below it.
    """

    def __init__(self, execution: Execution, options: StepOptions | None = None) -> None:
        self._execution = execution
        self._options = options if options is not None else _NO_OPTIONS

    # -- who am I --------------------------------------------------------------

    @property
    def execution_id(self) -> str:
        """Id of the execution."""
        return self._execution.id

    @property
    def id(self) -> str:
        """Same as :attr:`execution_id`."""
        return self._execution.id

    @property
    def container(self) -> Any:
        """The execution's dependency container, by which copies of this context share it."""
        return self._execution.container

    @property
    def attempt(self) -> int:
        """Which attempt of the function is running, from 1; more only under ``retry=``."""
        return self._execution.attempt

    def __repr__(self) -> str:
        return f"<durable context of {self._execution.id!r}>"

    # -- options ---------------------------------------------------------------

    def options(
        self,
        *,
        timeout: timedelta | float | None = None,
        retry: Any = None,
        key: str | None = None,
        target: str | None = None,
        version: int = 1,
    ) -> Self:
        """Return this context with options for the next operation.

        Args:
            timeout: Deadline of the step from now, a timedelta or seconds.
            retry: tenacity strategies, see :func:`durable.retries.retry_policy`.
            key: Name the step's place in the history yourself. Needed only where
                which task makes the call depends on timing, as with workers that
                take items from a queue: ``ctx.options(key=item.id).run(...)``.
            target: For ``rpc``: the group or address whose worker is to run it.
            version: For ``rpc`` by name: the registered version.

        Raises:
            InvalidArgumentError: An option is of the wrong type or out of range.
        """
        if key is not None and (not isinstance(key, str) or not _KEY.fullmatch(key)):
            msg = (
                f"key={key!r} cannot name a step: use 1 to 200 characters, "
                "none of them ':' or a control character"
            )
            raise InvalidArgumentError(msg)
        chosen = StepOptions(
            timeout=None if timeout is None else as_duration(timeout, "timeout"),
            retry=None if retry is None else retry_policy(retry),
            key=key,
            target=target,
            version=version,
        )
        return type(self)(self._execution, chosen)

    # -- durable operations ----------------------------------------------------

    def run[T](self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepFuture[Any]:
        """Run ``fn`` as a durable step and return its result, recorded or fresh.

        Args:
            fn: Any callable, async or not; a first parameter called ``ctx`` gets this
                context. A synchronous one runs in a worker thread.
            *args: Its arguments; a digest of them is recorded.
            **kwargs: Likewise.

        Returns:
            An awaitable of the result. The step starts at once, awaited or not.

        Raises:
            InvalidArgumentError: ``fn`` cannot be called.
            UnknownTaskError: Called where the step's place cannot be known.
            ReplayDivergenceError: (when awaited) the history has another step here.
        """
        if not callable(fn):
            msg = f"ctx.run() needs a function and got {type(fn).__name__}" + (
                "; pass the function and its arguments, ctx.run(f, x), not ctx.run(f(x))"
                if hasattr(fn, "__await__")
                else ""
            )
            raise InvalidArgumentError(msg)
        if self._execution.refusals > _REFUSALS_MAX:
            return self._parked()
        scope, activation = self._here()
        execution = self._execution
        name = function_name(fn)
        meta = StepMeta(kind="run", step=name, args=execution.values.digest(args, kwargs))
        call = StepCall(
            execution=execution,
            function=fn,
            shape=shape_of(fn),
            args=args,
            kwargs=kwargs,
            digest=meta.args,
            name=name,
            timeout=self._options.timeout,
            retry=self._options.retry,
            context=DurableContext(execution),
        )
        step_id = self._mint(scope, activation, meta)
        sdk = activation.context.minting(step_id, Opts(timeout=self._options.timeout))
        future = sdk.run(STEP, call)
        return StepFuture(step_id, future, execution.decode, execution)

    def sleep(self, duration: timedelta | float) -> StepFuture[None]:
        """Sleep durably: a restart sleeps only what is left.

        Args:
            duration: Seconds or a timedelta, not negative.
        """
        length = as_duration(duration, "duration", zero=True)
        if self._execution.refusals > _REFUSALS_MAX:
            return self._parked()
        scope, activation = self._here()
        meta = StepMeta(kind="sleep", step="sleep", args=f"{length.total_seconds():g}s")
        step_id = self._mint(scope, activation, meta)
        future = activation.context.minting(step_id, Opts()).timer(length)
        return StepFuture(step_id, future, lambda _: None, self._execution)

    def promise(self, *, timeout: timedelta | float | None = None) -> StepFuture[Any]:
        """Create a durable promise that any process or the command line settles.

        Its id is the ``id`` of what this returns; ``sostenuto resolve ID --value JSON``.
        """
        limit = self._options.timeout if timeout is None else as_duration(timeout, "timeout")
        if self._execution.refusals > _REFUSALS_MAX:
            return self._parked()
        scope, activation = self._here()
        step_id = self._mint(scope, activation, StepMeta(kind="promise", step="promise"))
        future = activation.context.minting(step_id, Opts()).promise(limit)
        return StepFuture(step_id, future, self._execution.decode, self._execution)

    def rpc(self, fn: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepFuture[Any]:
        """Run a registered function as an execution of its own, on any worker of the group.

        Args:
            fn: A registered function, or the name of one that some worker has.
            *args: Its arguments, through the value codec.
            **kwargs: Likewise.
        """
        if self._execution.refusals > _REFUSALS_MAX:
            return self._parked()
        scope, activation = self._here()
        execution = self._execution
        name, version = execution.registered_name(fn, self._options.version)
        meta = StepMeta(kind="rpc", step=name, args=execution.values.digest(args, kwargs))
        packed = [
            execution.encode(value, f"argument {i + 1} of {name}") for i, value in enumerate(args)
        ]
        named = {
            key: execution.encode(value, f"argument {key} of {name}")
            for key, value in kwargs.items()
        }
        step_id = self._mint(scope, activation, meta)
        opts = Opts(timeout=self._options.timeout, target=self._options.target, version=version)
        future = activation.context.minting(step_id, opts).rpc(name, *packed, **named)
        return StepFuture(step_id, future, execution.decode, execution)

    # -- dependencies ----------------------------------------------------------

    def get_dependency(self, name: str) -> Any:
        """Return the dependency ``name`` of this execution; see ``Durable.set_dependency``."""
        return self._execution.container.get(name)

    async def aget_dependency(self, name: str) -> Any:
        """Return a dependency whose factory may be async."""
        return await self._execution.container.aget(name)

    # -- places ----------------------------------------------------------------

    def _here(self) -> tuple[Scope, Activation]:
        scope = current_scope()
        activation: Activation = scope.owner
        if activation.execution is not self._execution:
            msg = (
                f"the context of execution {self._execution.id!r} was used inside "
                f"{activation.execution.id!r}: use the ctx that the running function was given"
            )
            raise ForeignContextError(msg)
        if activation.closed or self._execution.closed:
            self._execution.refusals += 1
            msg = (
                f"ctx of {self._execution.id!r} was used after "
                f"{'it' if self._execution.closed else 'step ' + activation.base_id} had ended: "
                "await every task that uses ctx before the function returns"
            )
            raise ExecutionOverError(msg)
        self._execution.check_going()
        return scope, activation

    def _parked(self) -> StepFuture[Any]:
        return StepFuture(self._execution.id, _Parked(), lambda _: None, self._execution)  # type: ignore[arg-type]

    def _mint(self, scope: Scope, activation: Activation, meta: StepMeta) -> str:
        key = self._options.key
        if key is not None and not activation.claim_key(key):
            msg = f"the key {key!r} already names another step here: keys must be unique"
            raise InvalidArgumentError(msg)
        step_id = scope.next_id() if key is None else scope.keyed_id(key)
        self._execution.effects.announce(step_id, meta)
        return step_id


def as_duration(value: timedelta | float, name: str, *, zero: bool = False) -> timedelta:
    """Return ``value`` (a timedelta or seconds) as a timedelta.

    Raises:
        InvalidArgumentError: Not a duration, negative, zero where that makes no
            sense, or over a hundred years.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError):
            msg = f"{name}={value!r} is no usable number of seconds: pass at most 100 years"
            raise InvalidArgumentError(msg) from None
    if not isinstance(value, timedelta):
        msg = f"{name}={value!r} must be a timedelta or a number of seconds"
        raise InvalidArgumentError(msg)
    if value < timedelta(0) or (not zero and not value):
        msg = f"{name}={value!r} must be {'zero or more' if zero else 'more than zero'}"
        raise InvalidArgumentError(msg)
    if value > _SLEEP_MAX:
        msg = f"{name}={value!r} is over 100 years: durations are timedeltas or seconds"
        raise InvalidArgumentError(msg)
    return value
