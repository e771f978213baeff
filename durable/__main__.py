"""``python -m durable`` and the ``sostenuto`` command."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["main"]


def main() -> Any:
    """Run the command line; ends the process with a documented exit code."""
    try:
        from durable.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("sostenuto: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
