"""Keeps a database busy for others by the plain sqlite3 module.

Usage: keeper.py DATABASE read|write SECONDS
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time


def main(database: str, mode: str, seconds: str) -> None:
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    connection.execute("BEGIN" if mode == "read" else "BEGIN IMMEDIATE")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    print(json.dumps({"at": time.monotonic(), "held": True}), flush=True)
    time.sleep(float(seconds))
    connection.execute("ROLLBACK")
    connection.close()


main(*sys.argv[1:])
