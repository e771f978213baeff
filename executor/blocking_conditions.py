"""When a call in the table cannot wait after all, from what it was called with.

Each condition is a pure function of the arguments and of the instance; it says
whether the call *may wait*. What is not known is taken as the default that the
library documents, so an unreadable argument never hides a wait.
"""

from __future__ import annotations

from collections.abc import Callable

from executor.blocking_values import Args, Const, Instance, Ref, Sequence, Union, Value

__all__ = ["CONDITIONS", "is_file", "is_in_memory"]

type Condition = Callable[[Args, Instance | None], bool]


def is_in_memory(value: Value | None) -> bool:
    """Whether every value it may be is a file that lives in memory."""
    if isinstance(value, Union):
        return all(is_in_memory(choice) for choice in value.choices)
    return isinstance(value, Instance) and value.rule.in_memory


def is_file(value: Value | None) -> bool:
    """Whether it may be an open file."""
    if isinstance(value, Union):
        return any(is_file(choice) for choice in value.choices)
    return isinstance(value, Instance) and value.rule.is_file


def _is_false(value: Value | None) -> bool:
    return isinstance(value, Const) and not value.value


def _is_zero(value: Value | None) -> bool:
    return isinstance(value, Const) and type(value.value) in (int, float) and value.value == 0


def _lock(args: Args, _: Instance | None) -> bool:
    return not (
        _is_false(args.get(0, "blocking"))
        or _is_false(args.get(0, "block"))
        or _is_zero(args.get(1, "timeout"))
    )


def _queue_get(args: Args, _: Instance | None) -> bool:
    return not (_is_false(args.get(0, "block")) or _is_zero(args.get(1, "timeout")))


def _queue_put(args: Args, queue: Instance | None) -> bool:
    if queue is not None and queue.unbounded:
        return False
    return not (_is_false(args.get(1, "block")) or _is_zero(args.get(2, "timeout")))


def _timeout_at(position: int) -> Condition:
    return lambda args, _: not _is_zero(args.get(position, "timeout"))


def _only_with_time(args: Args, _: Instance | None) -> bool:
    """Waits only when it is given a time to wait: ``poll()`` returns at once."""
    given = [name for name in ("timeout", "interval") if name in args.keywords]
    if not args.positional and not given:
        return args.open_ended
    value = args.positional[0] if args.positional else args.keywords[given[0]]
    return not (_is_false(value) or _is_zero(value))


def _file_at(position: int) -> Condition:
    """Waits unless that argument is a file in memory, or text and not a file at all."""
    names = ("fp", "file", "f", "stream", "source", "fileobj", "fileobject", "filename")

    def may_wait(args: Args, _: Instance | None) -> bool:
        value = args.get(position)
        for name in names:
            if value is None:
                value = args.keywords.get(name)
        return not is_in_memory(value)

    return may_wait


def _no_memory(args: Args, _: Instance | None) -> bool:
    return not any(is_in_memory(value) for value in args.every())


def _both_in_memory(args: Args, _: Instance | None) -> bool:
    return not (args.positional and all(is_in_memory(value) for value in args.every()[:2]))


def _has_path(args: Args, _: Instance | None) -> bool:
    """Waits only with a target: ``to_csv()`` without one returns the text."""
    if not args.positional and not {"path_or_buf", "path", "buf", "excel_writer"} & set(
        args.keywords
    ):
        return args.open_ended
    value = args.every()[0]
    return not (is_in_memory(value) or (isinstance(value, Const) and value.value is None))


def _nowait_flag(args: Args, *names: str) -> bool:
    for value in args.every():
        for flag in value.choices if isinstance(value, Union) else (value,):
            if isinstance(flag, Ref) and flag.path.rpartition(".")[2] in names:
                return True
    return False


def _socket(_: Args, socket: Instance | None) -> bool:
    return socket is None or not socket.never_waits


def _select(args: Args, _: Instance | None) -> bool:
    return not _is_zero(args.get(3, "timeout"))


def _any_argument(args: Args, _: Instance | None) -> bool:
    """Connecting constructors connect only when they are told to what."""
    if isinstance(args.get(0), Const) and not args.get(0).value:  # type: ignore[union-attr]
        return False
    return bool(args.positional or args.keywords or args.open_ended)


def _anonymous(args: Args, _: Instance | None) -> bool:
    first = args.get(0, "fileno")
    return not (isinstance(first, Const) and first.value == -1)


CONDITIONS: dict[str, Condition] = {
    "lock": _lock,
    "get": _queue_get,
    "put": _queue_put,
    "timeout0": _timeout_at(0),
    "timeout1": _timeout_at(1),
    "timeout3": _select,
    "timed0": _only_with_time,
    "blocking0": lambda args, _: not _is_false(args.get(0, "blocking")),
    "wait0": lambda args, _: not _is_false(args.get(0, "wait")),
    "file0": _file_at(0),
    "file1": _file_at(1),
    "file": lambda _, unpickler: True,
    "memory": _no_memory,
    "bothmemory": _both_in_memory,
    "onlyfile": lambda args, _: any(is_file(value) for value in args.every()),
    "path0": _has_path,
    "filename": lambda args, _: "filename" in args.keywords,
    "socket": _socket,
    "waitpid": lambda args, _: not _nowait_flag(args, "WNOHANG"),
    "flock": lambda args, _: not _nowait_flag(args, "LOCK_NB", "LOCK_UN"),
    "zmq": lambda args, _: not _nowait_flag(args, "NOBLOCK", "DONTWAIT"),
    "anyargument": _any_argument,
    "anonymous": _anonymous,
    "opener": lambda args, _: True,
    "onrule": lambda args, _: any(isinstance(value, Instance) for value in args.every()),
    "nothing": lambda args, _: False,
}
"""By the names that the table uses: whether the call may wait."""

# A result that depends on whether the source is a file: csv.reader over a list
# of strings never waits. Kept beside the conditions that share its tests.
RESULT_ONLY_FOR_FILES = "onfile"


def result_applies(condition: str, args: Args) -> bool:
    """Whether a conditional result holds for these arguments."""
    if condition == RESULT_ONLY_FOR_FILES:
        first = args.get(0)
        return is_file(first) or (
            isinstance(first, Sequence) and any(is_file(item) for item in first.items)
        )
    return True
