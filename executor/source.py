"""Source text: what is refused before it is parsed, and what is parsed."""

from __future__ import annotations

import ast
from types import CodeType
from typing import NoReturn

__all__ = [
    "MAX_SOURCE_SIZE_CHARS",
    "TLA_FLAG",
    "check_source",
    "nested_codes",
    "parse",
    "split_lines",
    "with_text",
]

TLA_FLAG: int = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

MAX_SOURCE_SIZE_CHARS = 2 * 1024 * 1024
"""Longer source is refused.

Parsing and compiling hold the event loop: two million characters of dense code take about
three seconds and half a gigabyte of syntax tree. Data of that size belongs in a file.
"""


def check_source(source: object, filename: str) -> str:
    """Return ``source`` if it is text that can be parsed at all.

    Args:
        source: What was given to ``execute()``.
        filename: The name that errors carry.

    Raises:
        TypeError: It is not a ``str``.
        SyntaxError: It is too long, or holds a null character or a lone surrogate; the position
            is that of the offending character.
    """
    if not isinstance(source, str):
        raise TypeError(
            f"source must be a str, not {type(source).__name__}; decode bytes before running them"
        )
    if len(source) > MAX_SOURCE_SIZE_CHARS:
        _refuse(
            f"source is too long: {len(source)} characters, and at most "
            f"{MAX_SOURCE_SIZE_CHARS} are run; load large data from a file instead",
            source,
            MAX_SOURCE_SIZE_CHARS,
            filename,
        )
    if "\0" in source:
        _refuse("source contains a null character", source, source.index("\0"), filename)
    if not source.isascii():
        try:
            source.encode()
        except UnicodeEncodeError as error:
            message = f"source contains a lone surrogate (U+{ord(source[error.start]):04X})"
            _refuse(message, source, error.start, filename)
    # An instance of a subclass may compare and hash in ways of its own.
    return source if type(source) is str else str.__str__(source)


def parse(source: str, filename: str, flags: int) -> ast.Module:
    """Parse a cell, with ``flags`` holding only the session's own ``__future__`` features.

    Raises:
        SyntaxError: CPython rejects the text; also where its parser runs out of depth.
    """
    try:
        tree = compile(source, filename, "exec", flags | TLA_FLAG | ast.PyCF_ONLY_AST, True)
    except (RecursionError, MemoryError):
        refuse_depth(source, filename)
    except SyntaxError as error:
        raise with_text(error, source) from None
    assert isinstance(tree, ast.Module)  # narrows what compile() is declared to return
    return tree


def refuse_depth(source: str, filename: str) -> NoReturn:
    """Raise a SyntaxError that points at the most deeply nested bracket."""
    position, depth = _deepest_bracket(source)
    nesting = f" ({depth} brackets are open here)" if depth else ""
    _refuse(f"source is nested too deeply to be compiled{nesting}", source, position, filename)


def with_text(error: SyntaxError, source: str) -> SyntaxError:
    """Give ``error`` the line it points at, which CPython looks for in a file on disk."""
    if error.text is None and error.lineno is not None:
        lines = split_lines(source)
        if 0 < error.lineno <= len(lines):
            error.text = lines[error.lineno - 1]
    return error


def _refuse(message: str, source: str, position: int, filename: str) -> NoReturn:
    before = source[:position]
    line_start = before.rfind("\n") + 1
    line_end = source.find("\n", position)
    text = source[line_start : line_end if line_end >= 0 else len(source)]
    column = position - line_start + 1
    # What is shown must be printable, and short even where the line is the whole source.
    text = text[:200].encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    raise SyntaxError(message, (filename, before.count("\n") + 1, column, text))


def _deepest_bracket(source: str) -> tuple[int, int]:
    depth = deepest = position = 0
    for index, character in enumerate(source):
        if character in "([{":
            depth += 1
            if depth > deepest:
                deepest, position = depth, index
        elif character in ")]}" and depth:
            depth -= 1
    return position, deepest


def split_lines(source: str) -> list[str]:
    """Split where CPython's tokenizer does: form feeds and Unicode separators do not count."""
    if "\r" in source:
        source = source.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in source:
        return [source + "\n"] if source else []
    lines = [line + "\n" for line in source.split("\n")]
    if lines[-1] == "\n":
        lines.pop()
    return lines


def nested_codes(code: CodeType) -> list[CodeType]:
    """Return ``code`` and the code of the functions, classes and generators defined in it."""
    found = [code]
    for each in found:  # which grows meanwhile
        found.extend([nested for nested in each.co_consts if type(nested) is CodeType])
    return found
