"""``python -m durable`` and the ``sostenuto`` command."""

from __future__ import annotations

from durable.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
