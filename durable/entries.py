"""What an app knows of a registered function."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import msgspec

from durable.calls import CallShape
from durable.retries import RetryPolicy

__all__ = ["Entry"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A registered function.

    Attributes:
        function: What the user registered.
        name: Name under which the store knows it.
        version: Version under which the store knows it.
        shape: How it is called.
        retry: Policy for failed attempts, or None.
        timeout: Default durable timeout, or None.
        signature: Its parameters, context included; None where they cannot be known.
    """

    function: Any
    name: str
    version: int
    shape: CallShape
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    signature: inspect.Signature | None = None
