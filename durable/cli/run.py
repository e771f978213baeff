"""``sostenuto run``: one execution of source, to its end or to where it waits."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from durable.cli.documents import printing_aside
from durable.cli.exits import Exit, ExitCode
from durable.cli.generations import generations, next_id
from durable.cli.groups import group_of, recorded_group
from durable.cli.output import guarded_output, loss_text
from durable.cli.progress import Activity, make_progress
from durable.cli.render import print_failure, print_result, record_json
from durable.cli.source_files import (
    SourceText,
    check_syntax,
    default_id,
    parse_duration,
    read_source,
)
from durable.cli.stopping import Stopper
from durable.cli.stores import opened
from durable.cli.terminal import moment
from durable.config import default_database, parse_url
from durable.errors import (
    EngineUnavailableError,
    ExecutionMismatchError,
    InvalidArgumentError,
    ReplayDivergenceError,
    UnknownExecutionError,
)
from durable.guards import validated_id
from durable.records import SOURCE_FUNCTION, ExecutionRecord
from durable.runtime import Durable

__all__ = ["RunRequest", "run_command"]

#: A sleep that ends within this many seconds is waited for, whatever --wait says.
SLEEP_WAITED_S = 600.0

#: Seconds that a command without a terminal waits for what only others settle.
WAIT_UNATTENDED_S = 5.0

_LOOK_S = 0.1

#: Seconds within which an execution begins here, unless another process has it.
BEGINS_S = 1.0


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``sostenuto run``."""

    file: str | None
    code: str | None
    id: str | None
    db: str | None
    timeout: str | None
    force: bool
    wait: str | None
    quiet: bool
    json: bool


def run_command(request: RunRequest) -> None:
    """Run and end the process with the exit code.

    Raises:
        Exit: Always, unless the execution is done.
    """
    source = read_source(request.file, request.code)
    check_syntax(source)
    timeout_s = None if request.timeout is None else parse_duration(request.timeout, "--timeout")
    wait_s = _wait_s(request.wait)
    if source.path is not None:
        sys.path.insert(0, str(source.path.parent))
    code = asyncio.run(_run(request, source, timeout_s, wait_s))
    if code is not ExitCode.DONE:
        raise Exit(code)


def _wait_s(wait: str | None) -> float | None:
    if wait is None:
        return None if sys.stderr.isatty() else WAIT_UNATTENDED_S
    if wait.strip() == "forever":
        return None
    return parse_duration(wait, "--wait", zero=True)


async def _run(
    request: RunRequest, source: SourceText, timeout_s: float | None, wait_s: float | None
) -> ExitCode:
    base_id = _base_id(request, source)
    stopper = Stopper(_say)
    farewell = f"steps that are done stay done. Resume with: {_resume(request, base_id)}"
    stopper.farewell = f"interrupted; {farewell}"
    lost: list[OSError] = []

    def lose(error: OSError) -> None:
        lost.append(error)
        stopper.stop(f"{loss_text(error)}: stopped; {farewell}")

    with stopper.handling(), guarded_output(lose):
        try:
            code = await _run_until(stopper, request, source, base_id, timeout_s, wait_s)
        except asyncio.CancelledError:
            if not stopper.interrupted.is_set():
                raise
            _say("interrupted before anything ran")
            return ExitCode.INTERRUPTED
        sys.stdout.flush()
        if code is ExitCode.DONE and any(error.errno != errno.EPIPE for error in lost):
            _say(f"{loss_text(lost[0])}; the execution is done, and its result on record")
            return ExitCode.RAISED
        return code


def _base_id(request: RunRequest, source: SourceText) -> str:
    """Return the id asked for, or the one derived, judged before anything is made."""
    try:
        return default_id(source) if request.id is None else validated_id(request.id, "--id")
    except InvalidArgumentError as error:
        raise Exit(ExitCode.USAGE, str(error)) from None


async def _run_until(
    stopper: Stopper,
    request: RunRequest,
    source: SourceText,
    base_id: str,
    timeout_s: float | None,
    wait_s: float | None,
) -> ExitCode:
    async with contextlib.AsyncExitStack() as stack:
        with stopper.cancelling():
            group = group_of(base_id)
            app = await stack.enter_async_context(opened(request.db, group=group, creates=True))
            execution_id, known = await _generation(app, base_id, source, force=request.force)
            if known is not None and known.state == "pending":
                made_for = await recorded_group(app, execution_id, group)
                if made_for != group:
                    await stack.aclose()
                    app = await stack.enter_async_context(opened(request.db, group=made_for))
        if known is not None and known.state != "pending":
            return _report_recorded(request, known)
        activity = Activity()
        progress = make_progress(activity, quiet=request.quiet or request.json)

        def listen(event: Any) -> None:
            if event.execution_id == execution_id:
                activity.note(event)
                progress.update()

        app.add_listener(listen)
        with progress, printing_aside(json=request.json):
            progress.say(f"{'resuming' if known is not None else 'running'} {execution_id}")
            file = {} if source.path is None else {"filename": str(source.path)}
            launcher = app.options(timeout=timeout_s, target=group)
            handle = launcher.run(execution_id, SOURCE_FUNCTION, source=source.text, **file)
            async with _telling_who_runs(app, request, activity, handle.id, progress.say):
                code = await _follow(app, handle, activity, stopper.interrupted, wait_s)
        if code is ExitCode.INTERRUPTED:
            _say(stopper.farewell)
            return code
        if code is ExitCode.SUSPENDED:
            _say(_suspended_text(activity, request, base_id))
            return code
        record = await app.execution(execution_id)
        if record.state in ("rejected_timedout", "rejected_canceled"):
            stopper.leave(_exit_code(record))
        return _print(request, record)


@contextlib.asynccontextmanager
async def _telling_who_runs(
    app: Durable, request: RunRequest, activity: Activity, id: str, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Say so when the execution does not begin here, as another process has it."""

    async def look() -> None:
        await asyncio.sleep(BEGINS_S)
        if activity.has_begun or (pid := await app.held_by(id)) is None:
            return
        local = parse_url(request.db or default_database()).path is not None
        when = "at once" if local else "when its lease ends, a minute after its last sign of life"
        say(f"{id} runs in another process, {pid}: waiting. Should that die, this goes on {when}")

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _follow(
    app: Durable, handle: Any, activity: Activity, interrupted: asyncio.Event, wait_s: float | None
) -> ExitCode:
    """Wait for the end, an interrupt, or a wait that is not due."""

    async def settled() -> None:
        # What it raised is read from the record; only what is not recorded ends here.
        try:
            await handle
        except (
            ReplayDivergenceError,
            EngineUnavailableError,
            ExecutionMismatchError,
            InvalidArgumentError,
        ) as error:
            record = None
            with contextlib.suppress(UnknownExecutionError, EngineUnavailableError):
                record = await app.execution(handle.id)
            if record is None or record.state == "pending":
                raise _unrecorded(error) from error
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise

    end = asyncio.create_task(settled())
    stop = asyncio.create_task(interrupted.wait())
    try:
        while True:
            await asyncio.wait({end, stop}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                end.result()
                return ExitCode.DONE
            if stop.done():
                return ExitCode.INTERRUPTED
            if wait_s is not None and _is_suspended(activity, wait_s):
                return ExitCode.SUSPENDED
    finally:
        stop.cancel()
        end.cancel()
        await asyncio.gather(end, stop, return_exceptions=True)


def _unrecorded(error: BaseException) -> Exit:
    if isinstance(error, EngineUnavailableError):
        return Exit(ExitCode.UNREACHABLE, str(error))
    if isinstance(error, ReplayDivergenceError):
        return Exit(ExitCode.RAISED, str(error))
    return Exit(ExitCode.USAGE, str(error))


def _is_suspended(activity: Activity, wait_s: float) -> bool:
    if not activity.is_idle or time.monotonic() - activity.changed_at < wait_s:
        return False
    horizon_ms = time.time() * 1000 + SLEEP_WAITED_S * 1000
    return all(due is None or due > horizon_ms for due in activity.waits.values())


def _suspended_text(activity: Activity, request: RunRequest, base_id: str) -> str:
    lines = []
    for promise_id, due_ms in activity.waits.items():
        if due_ms is None:
            lines.append(
                f"suspended: waiting on {promise_id}; settle it with: "
                f"sostenuto resolve {shlex.quote(promise_id)} --value JSON{_db_option(request)}"
            )
        else:
            lines.append(f"suspended: sleeping until {moment(due_ms)}")
    lines.append(f"Resume with: {_resume(request, base_id)}")
    return "\n".join(lines)


def _resume(request: RunRequest, base_id: str) -> str:
    words = ["sostenuto", "run"]
    if request.code is not None:
        words += ["-c", request.code]
    elif request.file is not None:
        words.append(request.file)
    if request.id is not None:
        words += ["--id", base_id]
    return shlex.join(words) + _db_option(request)


def _db_option(request: RunRequest) -> str:
    return f" --db {shlex.quote(request.db)}" if request.db is not None else ""


# -- generations of one id -------------------------------------------------------


async def _generation(
    app: Durable, base_id: str, source: SourceText, *, force: bool
) -> tuple[str, ExecutionRecord | None]:
    """Return the id to run under and its record, if it has one.

    The first run of an id has the id itself, fresh runs under it ``ID@2``, ``ID@3``...
    """
    runs = await generations(app, base_id)
    if not runs:
        return base_id, None
    record = runs[-1]
    latest = record.id
    if force:
        if record.state == "pending":
            await app.cancel(latest, "a fresh run was started with --force")
        return next_id(base_id, len(runs)), None
    if record.source is None:
        raise Exit(
            ExitCode.USAGE,
            f"{latest!r} is an execution of the function {record.name!r}, not of source: "
            "name another with --id",
        )
    if record.source != source.text:
        state = "finished" if record.state != "pending" else "unfinished"
        raise Exit(
            ExitCode.USAGE,
            f"the source of {latest!r} has changed since its {state} run of "
            f"{record.created_at:%Y-%m-%d %H:%M:%S} UTC. Its record is left as it is: "
            "--force starts a fresh run and keeps the old record in its history, "
            "--id names another",
        )
    return latest, record


# -- reports ---------------------------------------------------------------------


def _report_recorded(request: RunRequest, record: ExecutionRecord) -> ExitCode:
    if not request.json and not request.quiet:
        settled = record.settled_at
        when = f" {settled:%Y-%m-%d %H:%M:%S} UTC" if settled is not None else ""
        ended = "was done" if record.state == "resolved" else f"ended as {record.state}"
        _say(f"{record.id} {ended}{when}; nothing ran. --force runs it afresh")
    return _print(request, record)


def _print(request: RunRequest, record: ExecutionRecord) -> ExitCode:
    if request.json:
        print(record_json(record))
    elif record.state == "resolved":
        print_result(record)
    else:
        print_failure(record)
    return _exit_code(record)


def _exit_code(record: ExecutionRecord) -> ExitCode:
    match record.state:
        case "resolved":
            return ExitCode.DONE
        case "rejected_timedout":
            return ExitCode.TIMED_OUT
        case _:
            return ExitCode.RAISED


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"sostenuto: {line}", file=sys.stderr)
