"""SqliteConnection: the whole Resonate protocol on one SQLite file."""

from store.connection import SqliteConnection
from store.errors import (
    ClosedError,
    CorruptError,
    DeletedError,
    DiskFullError,
    ForeignFileError,
    LockedError,
    NewerSchemaError,
    StoreError,
    UnwritableError,
)

__all__ = [
    "ClosedError",
    "CorruptError",
    "DeletedError",
    "DiskFullError",
    "ForeignFileError",
    "LockedError",
    "NewerSchemaError",
    "SqliteConnection",
    "StoreError",
    "UnwritableError",
]
