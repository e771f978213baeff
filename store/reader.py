"""Reading off the hot path: a read-only connection in a thread of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
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

    async def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            connection = await self._open()
            return list(await connection.execute_fetchall(statement, parameters))
        except (sqlite3.Error, OSError) as error:
            raise errors.translate(error, self._path) from error

    async def _open(self) -> aiosqlite.Connection:
        if self._connection is None:
            opened = await aiosqlite.connect(
                schema.uri(self._path, "ro"), uri=True, isolation_level=None
            )
            await opened.create_function("has_tags", 2, search.has_tags, deterministic=True)
            if self._connection is not None:  # opened meanwhile, perhaps by another loop
                await opened.close()
                return self._connection
            self._connection = opened
        return self._connection

    async def close(self) -> None:
        """Close the connection and end its thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
