"""Reading executions from an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from resonate.error import ServerError
from resonate.resonate import Resonate
from resonate.timing import Clock
from resonate.types import PromiseRecord

from durable.errors import InvalidArgumentError
from durable.guards import engine_errors
from durable.notes import notes_id, static_notes
from durable.records import ExecutionRecord
from durable.values import ValueCodec

__all__ = ["STATES", "Reader"]

#: The states of a durable promise, as engines spell them.
STATES = ("pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout")

#: Records that one request asks for; the protocol's maximum.
_PAGE = 1000

#: Seconds a reader waits for the notes of an execution that has just timed out
#: elsewhere: its process writes them in the moment of the deadline.
_NOTES_PATIENCE_S = 0.25

_LOOK_AGAIN_S = 0.02


class Reader:
    """Reads executions and their notes."""

    def __init__(self, engine: Resonate, values: ValueCodec, clock: Clock) -> None:
        self._engine = engine
        self._values = values
        self._clock = clock

    async def execution(self, execution_id: str) -> ExecutionRecord:
        """Return one execution; raises UnknownExecutionError."""
        with engine_errors(execution_id):
            record = await self._engine.promises.get(execution_id)
            return ExecutionRecord(record, self._values, await self.notes(record))

    async def executions(
        self, state: str | None, name: str | None
    ) -> AsyncIterator[ExecutionRecord]:
        """Iterate over executions in the order of their ids."""
        if state is not None and state not in STATES:
            msg = f"state={state!r} is none of {', '.join(STATES)}"
            raise InvalidArgumentError(msg)
        cursor: str | None = None
        while True:
            with engine_errors("executions"):
                page = await self._engine.promises.search(
                    state, {"resonate:scope": "global"}, _PAGE, cursor
                )
            for promise in page.promises:
                if ":" in promise.id:
                    continue
                record = ExecutionRecord(promise, self._values)
                if record.name and name in {None, record.name}:
                    with engine_errors(promise.id):
                        notes = await self.notes(promise)
                    yield ExecutionRecord(promise, self._values, notes)
            cursor = page.cursor
            if cursor is None:
                return

    async def notes(self, record: PromiseRecord) -> list[str]:
        """Return the notes of an execution that the store settled, whose value is empty."""
        if record.state not in {"rejected_timedout", "rejected_canceled"}:
            return []
        give_up_at_ms = (record.settled_at or 0) + round(_NOTES_PATIENCE_S * 1000)
        while True:
            try:
                kept = await self._engine.promises.get(notes_id(record.id))
            except ServerError as error:
                if error.code != 404:
                    raise
            else:
                data = kept.param.data
                notes = data.get("notes") if isinstance(data, dict) else None
                return [str(note) for note in notes] if isinstance(notes, list) else []
            if self._clock() >= give_up_at_ms:
                return static_notes(record)
            await asyncio.sleep(_LOOK_AGAIN_S)
