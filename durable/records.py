"""What the store knows of an execution, a step or a promise, for people and programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from resonate.types import PromiseRecord

from durable.failures import failure_notes
from durable.outcomes import record_error
from durable.values import ValueCodec

__all__ = ["SOURCE_FUNCTION", "ExecutionRecord", "StepRecord", "as_time"]

#: Registered name of the function that runs source text.
SOURCE_FUNCTION = "sostenuto.source"


def as_time(milliseconds: int | None) -> datetime | None:
    """Return a wall-clock time of the store, in UTC, or None."""
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


class _Record:
    """Common to executions and steps: a durable promise, read once."""

    def __init__(self, promise: PromiseRecord, values: ValueCodec) -> None:
        self._promise = promise
        self._values = values
        self._param: dict[str, Any] = (
            promise.param.data if isinstance(promise.param.data, dict) else {}
        )

    @property
    def id(self) -> str:
        """Durable promise id."""
        return self._promise.id

    @property
    def state(self) -> str:
        """``pending``, ``resolved`` or ``rejected``, with ``_canceled`` or ``_timedout``."""
        return self._promise.state

    @property
    def created_at(self) -> datetime:
        """When it was created, UTC."""
        created = as_time(self._promise.created_at)
        assert created is not None
        return created

    @property
    def settled_at(self) -> datetime | None:
        """When it was settled, UTC; None while it is pending."""
        return as_time(self._promise.settled_at)

    @property
    def timeout_at(self) -> datetime | None:
        """Its deadline, UTC."""
        return as_time(self._promise.timeout_at)

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds from creation to settlement."""
        settled = self._promise.settled_at
        return None if settled is None else max(0, settled - self._promise.created_at)

    @property
    def result(self) -> Any:
        """The value it was resolved with; None while pending and for one that failed.

        Raises:
            ForeignPayloadError: The value is a pickle that this installation did not sign.
        """
        if self._promise.state != "resolved":
            return None
        return self._values.decode(self._promise.value.data)

    @property
    def error(self) -> BaseException | None:
        """The exception it failed with; None for one that did not."""
        if self._promise.state in {"pending", "resolved"}:
            return None
        return record_error(self._promise, self._values)

    @property
    def value_data(self) -> Any:
        """The payload as it is stored, plain JSON: nothing is decoded or unpickled."""
        return self._promise.value.data

    @property
    def error_text(self) -> str | None:
        """One readable line on why it failed, read without unpickling anything."""
        if self._promise.state in {"pending", "resolved"}:
            return None
        data = self._promise.value.data
        if isinstance(data, dict) and "message" in data:
            kind = str(data.get("type") or "Exception").removeprefix("builtins.")
            message = str(data["message"])
            return f"{kind}: {message}" if message else kind
        if self._promise.state == "rejected_timedout":
            return "timed out"
        if self._promise.state == "rejected_canceled":
            return f"cancelled: {data}" if isinstance(data, str) and data else "cancelled"
        return f"rejected: {data!r}"

    @property
    def traceback_text(self) -> str:
        """The recorded traceback, or ''."""
        data = self._promise.value.data
        return str(data.get("traceback") or "") if isinstance(data, dict) else ""


class StepRecord(_Record):
    """One step, sleep, promise or attempt below an execution."""

    @property
    def name(self) -> str:
        """Name of the function, or ``sleep``, ``promise``."""
        return str(self._param.get("step") or self._param.get("func") or "?")

    @property
    def kind(self) -> str:
        """``run``, ``sleep``, ``promise``, ``rpc``, ``attempt`` or ``notes``."""
        if "func" in self._param:
            return "rpc"
        return str(self._param.get("kind") or "promise")

    @property
    def parent_id(self) -> str:
        """Id of the function that it belongs to."""
        return self._promise.tags.get("resonate:parent", "")

    @property
    def details(self) -> dict[str, Any]:
        """What it recorded of itself: name, argument digest, attempt and wait."""
        return dict(self._param)


class ExecutionRecord(_Record):
    """One execution: which function, with what, and what came of it."""

    def __init__(
        self, promise: PromiseRecord, values: ValueCodec, side_notes: list[str] | None = None
    ) -> None:
        super().__init__(promise, values)
        self._side_notes = side_notes or []

    @property
    def name(self) -> str:
        """Registered name of the function."""
        return str(self._param.get("func") or "")

    @property
    def version(self) -> int:
        """Registered version of the function."""
        return int(self._param.get("version") or 1)

    @property
    def source(self) -> str | None:
        """The source text, for an execution of source."""
        text = self._kwargs.get("source") if self.name == SOURCE_FUNCTION else None
        return text if isinstance(text, str) else None

    @property
    def filename(self) -> str | None:
        """The file that the source came from, where it came from one."""
        name = self._kwargs.get("filename") if self.name == SOURCE_FUNCTION else None
        return name if isinstance(name, str) else None

    @property
    def _kwargs(self) -> dict[str, Any]:
        kwargs = self._param.get("kwargs")
        return kwargs if isinstance(kwargs, dict) else {}

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return tuple(self._values.decode(value) for value in self._param.get("args") or ())

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        return {key: self._values.decode(value) for key, value in self._kwargs.items()}

    @property
    def notes(self) -> list[str]:
        """The notes of an execution that failed or timed out, as plain text.

        Read without unpickling anything.
        """
        return [*failure_notes(self._promise.value.data), *self._side_notes]
