"""``python -m durable`` and the ``sostenuto`` command."""

from __future__ import annotations

import sys
from typing import Any

from durable.loading import load

__all__ = ["main"]


def main() -> Any:
    """Run the command line; ends the process with a documented exit code."""
    try:
        return load("durable.cli").main()
    except KeyboardInterrupt:
        print("sostenuto: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
