"""Reading off the hot path: a read-only connection in a thread of its own."""

from __future__ import annotations

import sqlite3
from typing import Any

import aiosqlite

from store import errors, schema, search

__all__ = ["Reader"]


class Reader:
    """Queries that may scan; opened on first use.

    Args:
        path: The database file, prepared by `schema.prepare`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._closed = False

    async def rows(self, statement: str, parameters: search.Parameters = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            StoreError: The file cannot be read, or the reader is closed.
        """
        connection = await self._open()
        try:
            return list(await connection.execute_fetchall(statement, parameters))
        except (sqlite3.Error, OSError, ValueError) as error:
            if self._closed:
                raise errors.closed(self._path) from error
            if isinstance(error, ValueError):
                raise
            raise errors.translate(error, self._path) from error

    async def _open(self) -> aiosqlite.Connection:
        if self._connection is not None:
            return self._connection
        opened = None
        try:
            if not self._closed:
                opened = await aiosqlite.connect(
                    schema.uri(self._path, "ro"), uri=True, isolation_level=None
                )
                await opened.create_function("has_tags", 2, search.has_tags, deterministic=True)
        except (sqlite3.Error, OSError) as error:
            if opened is not None:
                await opened.close()
            raise errors.translate(error, self._path) from error
        if opened is not None:
            if self._connection is None and not self._closed:
                self._connection = opened
            else:  # opened meanwhile, perhaps by another loop, or closed
                await opened.close()
        if self._connection is None:
            raise errors.closed(self._path)
        return self._connection

    async def close(self) -> None:
        """Close the connection and end its thread; it is not opened again."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
