"""JSON documents on standard output: valid whatever its encoding."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

__all__ = ["json_text", "print_json", "printing_aside"]


def json_text(document: Any, *, indent: int | None = 2) -> str:
    """Return a document as readable text, escaped where standard output cannot carry it."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text


def printing_aside(*, json: bool) -> contextlib.AbstractContextManager[Any]:
    """Let what code prints step aside with ``--json``: standard output is the document's alone."""
    return contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext()


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a document and send it on its way."""
    print(json_text(document, indent=indent), flush=True)
