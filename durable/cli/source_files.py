"""Reading what is to run, and naming its execution."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import sys
import tokenize
import traceback
from pathlib import Path
from typing import NamedTuple

from durable.cli.exits import Exit, ExitCode

__all__ = ["SourceText", "check_syntax", "default_id", "parse_duration", "read_source"]

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

#: A hundred years: what promises are given that are not to time out, and what dates can bear.
_DURATION_MAX_S = 36_525 * 86_400.0


class SourceText(NamedTuple):
    """Source and where it came from.

    Attributes:
        text: The Python source.
        path: The resolved file, or None for ``-c`` and standard input.
    """

    text: str
    path: Path | None


def read_source(file: str | None, code: str | None) -> SourceText:
    """Read the source that the command line names.

    Raises:
        Exit: Nothing or two things named, no such file, a directory, unreadable, or
            not text in its declared encoding (UTF-8 by default).
    """
    if (file is None) == (code is None):
        what = "both a FILE and -c CODE" if file is not None else "neither a FILE nor -c CODE"
        raise Exit(ExitCode.USAGE, f"{what} given: name one thing to run; see sostenuto run --help")
    if code is not None:
        with contextlib.suppress(UnicodeError):  # in an ASCII locale it comes as escaped bytes
            code = os.fsencode(code).decode("utf-8")
        return SourceText(code, None)
    assert file is not None
    if file == "-":
        if sys.stdin is None:
            raise Exit(
                ExitCode.USAGE, "standard input is closed: pipe the source into it, or name a file"
            )
        return SourceText(_decoded(sys.stdin.buffer.read(), "standard input"), None)
    path = Path(file)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Exit(ExitCode.USAGE, f"there is no file {file!r}: check the path") from None
    except IsADirectoryError:
        raise Exit(ExitCode.USAGE, f"{file!r} is a directory: name a Python file in it") from None
    except OSError as error:
        raise Exit(ExitCode.USAGE, f"{file!r} cannot be read: {error.strerror or error}") from None
    return SourceText(_decoded(data, repr(file)), path.resolve())


def _decoded(data: bytes, what: str) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (UnicodeDecodeError, SyntaxError, LookupError) as error:
        bad = error if isinstance(error, UnicodeDecodeError) else _first_bad_byte(data)
        where = ""
        if bad is not None:
            line = data.count(b"\n", 0, bad.start) + 1
            where = f" (byte 0x{data[bad.start]:02x} in line {line})"
        raise Exit(
            ExitCode.USAGE,
            f"{what} is not UTF-8 text{where}: save it as UTF-8 or declare its encoding in the "
            "first line, # -*- coding: ... -*-",
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _first_bad_byte(data: bytes) -> UnicodeDecodeError | None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error
    return None


def check_syntax(source: SourceText) -> None:
    """Refuse source that Python cannot compile before an execution of it is recorded.

    Raises:
        Exit: With file, line and caret, as Python shows it.
    """
    from executor.compiler import compile_cell
    from executor.source import check_source

    name = str(source.path) if source.path is not None else "<source>"
    try:
        compile_cell(check_source(source.text, name), name, 1, 0)
    except SyntaxError as error:
        lines = traceback.format_exception_only(type(error), error)
        raise Exit(
            ExitCode.RAISED, "the source does not compile\n" + "".join(lines).rstrip()
        ) from None


def default_id(source: SourceText) -> str:
    """Return the execution id derived from the file's resolved path.

    The stem, for people, and the first ten hex digits of the SHA-256 of the path;
    for ``-c`` and standard input, of the source itself.
    """
    if source.path is None:
        return (
            f"code-{hashlib.sha256(source.text.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
        )
    stem = re.sub(r"[^\w.-]+", "_", source.path.stem)[:40] or "file"
    digest = hashlib.sha256(str(source.path).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"{stem}-{digest}"


def parse_duration(text: str, option: str, *, zero: bool = False) -> float:
    """Return seconds from ``90``, ``1.5h``, ``30d`` and the like.

    Args:
        text: What was written.
        option: Its option, for the message.
        zero: Whether 0 is a duration here.

    Raises:
        Exit: Not a duration, or not more than zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*", text)
    if match is None or (float(match[1]) <= 0 and not zero):
        raise Exit(
            ExitCode.USAGE,
            f"{option} {text!r} is not a duration: write seconds, or a number with ms, s, m, h, d "
            "or w, such as 90, 5m or 30d",
        )
    seconds = float(match[1]) * _UNITS_S[match[2] or ""]
    if seconds > _DURATION_MAX_S:
        raise Exit(
            ExitCode.USAGE, f"{option} {text!r} is too long: write at most 100 years, 36500d"
        )
    return seconds
