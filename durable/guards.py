"""Ids that engines can carry, and engine errors as the durable layer's own."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

from resonate.error import (
    Base64DecodeError,
    ConnectorError,
    DecodingError,
    SerializationError,
    ServerError,
)

from durable.errors import (
    EngineUnavailableError,
    InvalidArgumentError,
    UndecodableValueError,
    UnknownExecutionError,
)

__all__ = ["check_promise_id", "engine_errors", "validated_id"]

#: Every step id extends its execution's id, and engines index ids: keep them short.
ID_LENGTH_MAX = 512

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def validated_id(execution_id: Any, what: str = "id") -> str:
    """Return an id that engines can carry.

    Raises:
        InvalidArgumentError: Not a string, empty, over 512 characters, with a ``:``,
            which separates an execution from its steps, or a control character.
    """
    if not isinstance(execution_id, str):
        msg = f"{what}={execution_id!r} must be a string, not {type(execution_id).__name__}"
        raise InvalidArgumentError(msg)
    if not execution_id:
        msg = f"{what} must not be empty: name the execution, for example 'report-2025-01'"
        raise InvalidArgumentError(msg)
    if len(execution_id) > ID_LENGTH_MAX:
        msg = (
            f"{what} of {len(execution_id)} characters, {execution_id[:40]!r}..., is too long: "
            f"use at most {ID_LENGTH_MAX}"
        )
        raise InvalidArgumentError(msg)
    if ":" in execution_id:
        msg = f"{what}={execution_id!r} must not contain ':', which separates the ids of its steps"
        raise InvalidArgumentError(msg)
    found = _CONTROL.search(execution_id)
    if found:
        msg = (
            f"{what}={execution_id!r} contains the control character {found.group()!r} at "
            f"{found.start()}: use printable characters"
        )
        raise InvalidArgumentError(msg)
    return execution_id


def check_promise_id(promise_id: Any) -> None:
    """Check an id that may also be below an execution."""
    if isinstance(promise_id, str) and ":" in promise_id:
        origin, _, lineage = promise_id.partition(":")
        validated_id(origin)
        validated_id(lineage.replace(":", "_"))
    else:
        validated_id(promise_id)


class engine_errors:  # noqa: N801 - reads as the statement it is used as
    """Turns what the engine raises into the durable layer's own errors."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if isinstance(error, ServerError) and error.code == 404:
            msg = (
                f"there is no execution or promise {self._subject!r} in this store: "
                "check the id and the URL"
            )
            raise UnknownExecutionError(msg) from error
        if isinstance(error, (Base64DecodeError, DecodingError, SerializationError)):
            msg = (
                f"what is stored about {self._subject!r} cannot be decoded: {error}. It was "
                "written with another encryptor or key, or damaged: give its encryptor="
            )
            raise UndecodableValueError(msg) from error
        if isinstance(error, ConnectorError):
            msg = f"the store or engine did not answer about {self._subject!r}: {error}"
            raise EngineUnavailableError(msg) from error
        if isinstance(error, ServerError):
            msg = (
                f"the engine refused the request about {self._subject!r}: {error.message} "
                f"(status {error.code})"
            )
            raise InvalidArgumentError(msg) from error
