"""A session that runs source text as if typed at a prompt that allows ``await``."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from contextvars import copy_context
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

from executor import output, tasks
from executor.callbacks import contain_callbacks
from executor.compiler import CellCompiler, CompiledCell
from executor.deadlines import add_notes, checked_limit
from executor.errors import ExecutorClosedError, ReentrantExecutionError
from executor.main_module import share_main
from executor.modes import ExecutionMode
from executor.monitoring import name_of
from executor.namespace import NamespaceManager
from executor.outcome import Outcome
from executor.routes import CellRouter
from executor.runner import STOP_GRACE_S, CellRunner, Stop
from executor.runs import CURRENT_RUN, Run, current_run
from executor.source import TLA_FLAG
from executor.supervision import Supervisor
from executor.transport import ErrorMessage, NoteMessage, Outlet, ResultMessage, Transport
from executor.turns import Turns

__all__ = ["AsyncExecutor"]


_logger = logging.getLogger(__name__)


class _Inherit(Enum):
    TIMEOUT = "the executor's own limit"


_INHERIT: Final = _Inherit.TIMEOUT


class AsyncExecutor:
    """Runs cells one after another in one live namespace and one context.

    Args:
        namespace_manager: The namespace to live in; a new one by default.
        transport: Where output, results, errors and notes go while cells run. Without one,
            output goes where it always went.
        execution_id: What messages, notes and tracebacks call this session; by default a new
            unique name.
        timeout: Seconds that a cell may take; None for no limit.

    Raises:
        TypeError: ``timeout`` is not a number.
        ValueError: ``timeout`` is negative or NaN.

    Example:
        >>> async with AsyncExecutor() as ex:
        ...     await ex.execute("await asyncio.sleep(0, 42)")
        42
    """

    PyCF_ALLOW_TOP_LEVEL_AWAIT = TLA_FLAG

    def __init__(
        self,
        namespace_manager: NamespaceManager | None = None,
        transport: Transport | None = None,
        execution_id: str | None = None,
        *,
        timeout: float | None = 30.0,
    ) -> None:
        self._timeout_s = checked_limit(timeout)
        self._namespace = namespace_manager if namespace_manager is not None else NamespaceManager()
        self._execution_id = execution_id or f"exec-{uuid.uuid4().hex[:12]}"
        self._outlet = None if transport is None else Outlet(transport)
        self._tasks = tasks.TaskRegistry(self._report_failure)
        self._compiler = CellCompiler(self._execution_id)
        self._supervisor = Supervisor(self._execution_id, self._namespace.namespace)
        self._runner = CellRunner(
            self._namespace.namespace, copy_context(), self._tasks, self._supervisor
        )
        self._router = CellRouter(self._namespace.namespace)
        self._turns = Turns()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: Run | None = None
        self._is_closed = False
        share_main()
        if self._outlet is not None:
            output.acquire()

    # -- what a session is ---------------------------------------------------------------------

    @property
    def namespace(self) -> NamespaceManager:
        """The manager of the live namespace."""
        return self._namespace

    @property
    def execution_id(self) -> str:
        """What messages, notes and tracebacks call this session."""
        return self._execution_id

    @property
    def timeout(self) -> float | None:
        """Seconds that a cell may take, or None for no limit."""
        return self._timeout_s

    @property
    def tasks(self) -> list[asyncio.Future[Any]]:
        """The tasks that cells have started and that have not ended, oldest first."""
        return self._tasks.pending

    @property
    def notes(self) -> tuple[NoteMessage, ...]:
        """What was noted about the cell that ran last, and since then by what it left running."""
        run = self._run
        if run is None:
            return ()
        return (*_routing_note(run), *run.notes)

    @property
    def is_closed(self) -> bool:
        """Whether ``aclose()`` was called."""
        return self._is_closed

    # -- running -------------------------------------------------------------------------------

    async def execute(
        self,
        source: str,
        *,
        timeout: float | _Inherit | None = _INHERIT,  # noqa: ASYNC109  # the limit of a cell, not of this call
    ) -> Any:
        """Run one cell; concurrent calls run one after another, in the order of the calls.

        Args:
            source: The text of the cell.
            timeout: Seconds it may take, None for no limit; the executor's own limit by default.

        Returns:
            The value of the last expression; None where there is none, or where a trailing
            semicolon silences it.

        Raises:
            BaseException: Whatever the code raised, with notes that name this session. A
                StopIteration, which no coroutine can raise, is the cause of a RuntimeError.
            SyntaxError: The code cannot be compiled.
            TypeError: ``source`` is not a str.
            TimeoutError: The cell did not end in time.
            ExecutionInterruptedError: ``interrupt()`` stopped the cell.
            ReentrantExecutionError: The cell that is running made this call.
            ExecutorClosedError: The executor is closed.
        """
        limit_s = self._timeout_s if timeout is _INHERIT else checked_limit(timeout)
        self._refuse_reentry()
        if not self._turns.take():
            await self._turns.enter()
        try:
            outcome = await self._run_cell(source, limit_s)
        finally:
            self._turns.leave()
        if outcome.error is None:
            return outcome.value
        try:
            raise outcome.error  # noqa: TRY301  # raised here so that it can be raised without a trace
        except BaseException as error:
            outcome.restore(error)
            raise

    def analyze_execution_mode(self, source: str) -> ExecutionMode:
        """Say where a cell would run, without running anything; never raises."""
        try:
            found = self._router.route(self._compiler.preview(source))
        except Exception as error:  # noqa: BLE001  # source that cannot run waits for nothing
            _logger.debug("cannot be compiled: %s", type(error).__name__)
            return ExecutionMode.SIMPLE_SYNC
        _logger.debug("%s: %s", found.mode.value, found.reason)
        return found.mode

    async def interrupt(self) -> bool:
        """Stop the cell that is running; its ``execute()`` raises ExecutionInterruptedError.

        Returns:
            Whether a cell was running. When this returns the cell has ended, or has been given
            up, unless it is the cell itself that asks.
        """
        ended = self._runner.stop(Stop.INTERRUPT)
        if ended is None:
            return False
        if not self._is_own_call():
            # From another thread's loop too: the cell's own may be frozen.
            await asyncio.wait({asyncio.wrap_future(ended)}, timeout=4 * STOP_GRACE_S)
        return True

    async def aclose(self) -> None:
        """Stop what runs, cancel and await what cells left running, and report what failed.

        Raises:
            ReentrantExecutionError: A running cell tried to close its own executor.
        """
        self._refuse_reentry()
        if self._is_closed:
            return
        self._is_closed = True
        self._turns.refuse_waiting(ExecutorClosedError, self._closed_message())
        await self.interrupt()
        await self._cancel_tasks()
        self._tasks.flush()
        self._compiler.clear()
        self._supervisor.close()
        if self._loop is not None:
            tasks.unwatch(self._loop)
            self._loop = None
        if self._outlet is not None:
            output.release()
            await self._outlet.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # -- one cell ------------------------------------------------------------------------------

    async def _run_cell(self, source: str, limit_s: float | None) -> Outcome:
        self._refuse_closed()
        self._attend(asyncio.get_running_loop())
        run = self._run = self._begin()
        cell: CompiledCell | None = None
        mode = ExecutionMode.SIMPLE_SYNC
        try:
            cell = self._compile(source, run)
            found = run.route = self._supervisor.corrected(cell, self._router.route(cell))
            mode = found.mode
        except Exception as error:  # noqa: BLE001  # raised by execute(), as the user's own
            outcome = Outcome(None, error)
        else:
            self._tell(cell, run)
            if cell.may_schedule:
                contain_callbacks(asyncio.get_running_loop())
            outcome = await self._runner.run(cell, run, mode, limit_s)
        outcome = self._finish(source, cell, run, mode, outcome)
        if self._outlet is not None:
            output.note_streams()
            await self._send_outcome(self._outlet, run, outcome)
        return outcome

    def _compile(self, source: str, run: Run) -> CompiledCell:
        if self._outlet is None:
            return self._compiler.compile(source, run.cell)
        # What the compiler warns of is output of the cell.
        token = CURRENT_RUN.set(run)
        try:
            return self._compiler.compile(source, run.cell)
        finally:
            CURRENT_RUN.reset(token)

    def _begin(self) -> Run:
        if self._outlet is not None:
            output.refresh()
        return Run(
            self._execution_id,
            self._namespace.begin_cell(),
            self._outlet,
            self._tasks,
            self._namespace.namespace,
        )

    def _finish(
        self,
        source: object,
        cell: CompiledCell | None,
        run: Run,
        mode: ExecutionMode,
        outcome: Outcome,
    ) -> Outcome:
        run.is_active = False
        self._tasks.settle(run)
        if cell is not None:
            self._compiler.future_flags |= cell.future_flags
            for name in cell.helpers:
                self._namespace.namespace.pop(name, None)
        if outcome.error is not None:
            outcome = _as_raised(outcome)
            self._add_notes(outcome.error, source, cell, run, mode)
        elif cell is not None and cell.is_silent:
            outcome.value = None
        elif outcome.value is not None:
            self._namespace.record_expression_result(outcome.value)
        return outcome

    def _add_notes(
        self,
        error: BaseException | None,
        source: object,
        cell: CompiledCell | None,
        run: Run,
        mode: ExecutionMode,
    ) -> None:
        if error is None:
            return
        length_chars = len(source) if isinstance(source, str) else 0
        add_notes(error, self._execution_id, length_chars, mode)
        if cell is not None and cell.number != run.cell:
            with suppress(Exception):
                BaseException.add_note(
                    error, f"Cell {run.cell} repeats the source of cell {cell.number}"
                )

    async def _send_outcome(self, outlet: Outlet, run: Run, outcome: Outcome) -> None:
        if outcome.error is not None:
            outlet.send(ErrorMessage(run.execution_id, run.cell, outcome.error))
        elif outcome.value is not None:
            outlet.send(ResultMessage(run.execution_id, run.cell, outcome.value))
        await outlet.drain()

    def _tell(self, cell: CompiledCell, run: Run) -> None:
        """Note what the user would not expect: changes to the cell, and a thread to run it in."""
        for change in cell.rewrites:
            text = f"line {change.line}, column {change.column + 1}: {change.change}"
            run.note("rewrite", text, change.line)
        in_thread = run.route is not None and run.route.mode is ExecutionMode.BLOCKING_SYNC
        if in_thread and run.outlet is not None:
            run.outlet.send(*_routing_note(run))

    # -- tasks and closing ---------------------------------------------------------------------

    def _attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the session to the loop that runs it now."""
        if loop is self._loop:
            return
        if self._loop is not None:
            tasks.unwatch(self._loop)
        self._loop = loop
        tasks.watch(loop)
        if self._outlet is not None:
            self._outlet.bind(loop)

    def _report_failure(self, source: Any, error: BaseException, run: Run) -> None:
        """Tell of a task whose exception nobody took, or of a callback's that stops loops."""
        is_task = isinstance(source, asyncio.Future)
        name = _title(source)
        title = f"task {name}" if is_task else name
        with suppress(Exception):
            BaseException.add_note(error, f"Execution ID: {run.execution_id}")
            BaseException.add_note(error, f"Raised in {title} of cell {run.cell}")
        run.note("task", f"{title} of cell {run.cell} failed: {type(error).__name__}")
        if run.outlet is not None:
            run.outlet.send(ErrorMessage(run.execution_id, run.cell, error, name))
        else:
            message = f"{title} of cell {run.cell} of session {run.execution_id} failed"
            context = {
                "message": message,
                "exception": error,
                "task" if is_task else "source": source,
            }
            loop = source.get_loop() if is_task else asyncio.get_running_loop()
            loop.call_exception_handler(context)

    async def _cancel_tasks(self) -> None:
        pending = [
            task for task in self._tasks.pending if task.get_loop() is asyncio.get_running_loop()
        ]
        for task in pending:
            task.cancel()
        if not pending:
            return
        _, refusing = await asyncio.wait(pending, timeout=STOP_GRACE_S)
        for task in refusing:
            # It swallows its cancellation; asyncio.run() would wait for it forever at its end.
            asyncio._unregister_task(task)  # type: ignore[arg-type]  # noqa: SLF001  # documented for loop authors

    def _is_own_call(self) -> bool:
        run = self._run
        return run is not None and run.is_active and run is current_run()

    def _refuse_reentry(self) -> None:
        if self._is_own_call():
            raise ReentrantExecutionError(
                f"the running cell of session {self._execution_id} called its own executor, "
                "which runs one cell at a time: it would wait for itself; await the code directly, "
                "or use another executor"
            )

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise ExecutorClosedError(self._closed_message())

    def _closed_message(self) -> str:
        return f"session {self._execution_id} is closed and runs no more cells"


def _title(source: Any) -> str:
    """What to call a task or a callback that failed."""
    if isinstance(source, asyncio.Task):
        return source.get_name()
    return repr(source) if isinstance(source, asyncio.Future) else f"callback {name_of(source)}"


def _routing_note(run: Run) -> tuple[NoteMessage, ...]:
    found = run.route
    if found is None:
        return ()
    text = f"{found.mode.value}: {found.reason}"
    return (NoteMessage(run.execution_id, run.cell, "routing", text, found.line),)


def _as_raised(outcome: Outcome) -> Outcome:
    """A coroutine cannot raise StopIteration: do what CPython does where one tries to."""
    stop = outcome.error
    # Not isinstance(), which asks the user's class.
    if stop is None or not issubclass(type(stop), StopIteration):
        return outcome
    error = RuntimeError("coroutine raised StopIteration")
    error.__cause__ = error.__context__ = stop
    return Outcome(None, error.with_traceback(stop.__traceback__))
