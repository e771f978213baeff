"""`ReadOnlyConnection`: a store to look into, which nothing of its file is changed by."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from store import addresses, errors, protocol, schema, search
from store.clocks import now_ms
from store.transaction import Transaction

__all__ = ["ReadOnlyConnection"]


class ReadOnlyConnection:
    """Answers the requests of the protocol that read, and refuses every other.

    It joins no group, applies no deadline and takes no message. Meant for replays and
    for files kept as records; reads are made on the event loop.

    Args:
        path: The database file, which must exist.
        clock: Returns milliseconds since the epoch.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], int] = now_ms) -> None:
        self.path = os.path.abspath(os.fspath(path))  # noqa: PTH100  # as given, links and all
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    def unicast(self) -> str:
        """An address that nothing is sent to."""
        return addresses.unicast("readers", str(os.getpid()))

    def resolve_target(self, target: str) -> str:
        """The address of any one member of a group."""
        return addresses.anycast(target)

    def recv(self, callback: Callable[[str], None]) -> None:
        """Register nothing: there are no messages for a reader."""

    async def start(self) -> None:
        """Open the file.

        Raises:
            StoreError: The file cannot be read; the subclass says why.
        """
        self._open()

    async def stop(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002  # one file has no partitions to route by
        """Answer a request that reads; any other is refused with status 403.

        Raises:
            StoreError: The file cannot be read.
        """
        call = protocol.prepare(req)
        try:
            connection = self._open()
            if call.search is not None:
                query = call.search.query(call.data, self._clock())
                rows = connection.execute(query.statement, query.parameters).fetchall()
                return protocol.reply(call, query.answer(rows))
            if call.operation is None or call.operation.writes:
                return protocol.reply(call, call.refusal or (403, "the store is only being read"))
            transaction = Transaction(connection.execute, self._clock(), None)
            return protocol.apply(transaction, call)
        except (sqlite3.Error, OSError) as error:
            raise errors.translate(error, self.path) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                connection = sqlite3.connect(
                    schema.uri(self.path, "ro"), uri=True, isolation_level=None
                )
                connection.create_function("has_tags", 2, search.has_tags, deterministic=True)
                connection.execute("SELECT 1 FROM promises LIMIT 1").fetchall()
            except (sqlite3.Error, OSError) as error:
                raise errors.translate(error, self.path) from error
            self._connection = connection
        return self._connection
