"""Settled promise records as values or exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resonate.types import PromiseRecord

from durable.errors import ExecutionCancelledError, ExecutionTimeoutError, PromiseRejectedError
from durable.failures import decode_failure
from durable.notes import limit_s
from durable.values import ValueCodec

__all__ = ["record_error", "record_value"]


def record_value(
    record: PromiseRecord, values: ValueCodec, namespace: Mapping[str, Any] | None = None
) -> Any:
    """Return what a resolved record carries, or raise what a rejected one does.

    Args:
        record: A settled record whose payload has been through the engine's codec.
        values: Codec of typed values.
        namespace: Names by which classes defined in the source are found.
    """
    if record.state == "resolved":
        return values.decode(record.value.data, namespace=namespace)
    raise record_error(record, values, namespace)


def record_error(
    record: PromiseRecord, values: ValueCodec, namespace: Mapping[str, Any] | None = None
) -> BaseException:
    """Return the exception that a record settled otherwise than resolved stands for."""
    data = record.value.data
    if record.state == "rejected_timedout":
        return ExecutionTimeoutError(
            f"{_subject(record)} timed out: it was not settled by its deadline, "
            f"{limit_s(record.created_at, record.timeout_at):g} s after its start"
        )
    if record.state == "rejected_canceled":
        reason = f": {data}" if isinstance(data, str) and data else ""
        return ExecutionCancelledError(f"{_subject(record)} was cancelled{reason}")
    if isinstance(data, dict) and "message" in data:
        return decode_failure(data, values, namespace=namespace)
    value = values.decode(data, namespace=namespace)
    return PromiseRejectedError(f"{record.id!r} was rejected with {value!r}", value)


def _subject(record: PromiseRecord) -> str:
    step = record.param.data.get("step") if isinstance(record.param.data, dict) else None
    return f"{record.id!r} (step {step})" if isinstance(step, str) else repr(record.id)
