"""Finds a cell's last expression in its text, so that most cells are compiled without a tree.

Parsing to a tree of Python objects and compiling that takes twice as long as compiling the text.
What is not plain at a glance (continued lines, f-strings that nest their own quotes ...) is left
to the tree: a wrong answer here would change what a cell means.
"""

from __future__ import annotations

import re

__all__ = ["split_last"]

# Longer cells are rare, and what compiling them costs is not what anybody waits for.
_MAX_SIZE_CHARS = 20_000

# Looked for one by one: for texts as short as cells that takes a third of an expression's time.
_UNCLEAR = ("\r", "\f", "\0", "__future__")
# What the tokenizer finds, but for f-strings that use their own quotes inside. Every branch begins
# with a plain character, which the search for a match then looks for first.
_STRINGS_AND_COMMENTS = re.compile(
    r"""'(?:''(?:[^\\]|\\[\s\S])*?'''|(?:[^'\\\n]|\\.)*')"""
    r'''|"(?:""(?:[^\\]|\\[\s\S])*?"""|(?:[^"\\\n]|\\.)*")'''
    r"|#[^\n]*"
)
# What is left of a text without its strings shows that they were not found rightly.
_LEFT_OVER = ("\\", "'", '"')
# The compiler may warn of it, and would do so twice where what seems an expression is none.
_ODD_ESCAPE = re.compile(r"""\\(?!["'\\nrt])""")
_MAY_NEST = frozenset("fFtT")
_COMPOUND = re.compile(r"@|(?:async|class|def|elif|else|except|finally|for|if|try|while|with)\b")
_STATEMENT = re.compile(
    r"(?:def|class|import|from|if|elif|else|for|while|with|try|except|finally|return|raise|pass|"
    r"del|assert|global|nonlocal|async|break|continue)\b|[A-Za-z_][\w.]*\s*(?:[-+*/%&|^@]?=(?!=))"
)


def split_last(source: str) -> tuple[str, str] | None:
    """Split off the last statement of a cell.

    Returns:
        The text of the statements before the last one, empty where there are none, and that of
        the last statement below as many empty lines as stand before it, empty where that is
        clearly no expression; None where only a parser can tell.
    """
    if len(source) > _MAX_SIZE_CHARS:
        return None
    for mark in _UNCLEAR:
        if mark in source:
            return None
    if not source or source[0] in " \t#":
        return None
    if "\n" not in source and ";" not in source and "\\" not in source:
        return "", "" if _STATEMENT.match(source) else source
    blanked = _STRINGS_AND_COMMENTS.sub(_blank, source)
    for mark in _LEFT_OVER:
        if mark in blanked:
            return None
    clean = blanked.split("\n")
    start = _last_start(clean)
    if start is None:
        return None
    lines = source.split("\n")
    first = clean[start]
    if ";" in blanked and ";" in "".join(clean[start:]):
        return ("", "") if _COMPOUND.match(first) else _split_line(clean, lines, start)
    if _STATEMENT.match(first):
        return "", ""
    last = "\n".join(lines[start:])
    if _ODD_ESCAPE.search(last):
        return None
    has_body = any(line.strip() for line in clean[:start])
    return "\n".join(lines[:start]) + "\n" if has_body else "", "\n" * start + last


def _split_line(clean: list[str], lines: list[str], start: int) -> tuple[str, str] | None:
    """Split a last line that holds several statements."""
    line, text = lines[start], clean[start]
    if any(each.strip() for each in clean[start + 1 :]):
        return None
    end = text.rindex(";") + 1
    rest = text[end:].lstrip(" \t")
    # With strings in it the columns are others, and what a semicolon ends has no value to show.
    if not rest or not line.startswith(text) or not line.isascii():
        return None
    if _STATEMENT.match(rest):
        return "", ""
    body = "\n".join([*lines[:start], line[:end]])
    # A form feed puts the indentation back to none, and leaves the columns as they are.
    column = len(text) - len(rest)
    return body, "\n" * start + " " * (column - 1) + "\f" + line[column:]


def _blank(found: re.Match[str]) -> str:
    """Put in place of a string or comment; a backslash where it may be another one than it seems.

    With the quotes of its own inside, an f-string seems to end within a replacement field: its
    braces are an odd number then, of which no pairs can be made.
    """
    text = found[0]
    if text[0] == "#":
        return ""
    start = found.start()
    prefix = found.string[max(0, start - 2) : start]
    if not _MAY_NEST.isdisjoint(prefix) and text.count("{") != text.count("}"):
        return "\\"
    lines = text.count("\n")
    return "0" + "\n " * lines if lines else "0"


def _last_start(clean: list[str]) -> int | None:
    """The line at which the last statement begins, if no bracket is open there."""
    for start in range(len(clean) - 1, -1, -1):
        line = clean[start]
        if line and line[0] not in " \t)]}":
            before = "\n".join(clean[:start])
            for opening, closing in ("()", "[]", "{}"):
                if before.count(opening) != before.count(closing):
                    return None
            return start
    return None
