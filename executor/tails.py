"""Finds a cell's last expression in its text, so that most cells are compiled without a tree.

Parsing to a tree of Python objects and compiling that takes twice as long as compiling the text.
What is not plain at a glance (strings over several lines, backslashes, semicolons, f-strings
beside other lines ...) is left to the tree: a wrong answer here would change what a cell means.
"""

from __future__ import annotations

import re

__all__ = ["split_last"]

# Longer cells are rare, and what compiling them costs is not what anybody waits for.
_MAX_SIZE_CHARS = 20_000

# Looked for one by one: for texts as short as cells that takes a third of an expression's time.
_UNCLEAR = ("\\", ";", "\r", "\f", "\0", '"""', "'''", "__future__")
_F_STRING = re.compile(r"""\b(?:[fF][rR]?|[rR][fF])['"]""")
# Without escapes and strings over several lines this is what the tokenizer finds.
_STRINGS_AND_COMMENTS = re.compile(r"""'[^'\n]*'|"[^"\n]*"|#[^\n]*""")
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
    if "\n" not in source:
        if not source or source[0] in " \t#":
            return None
        return "", "" if _STATEMENT.match(source) else source
    if _F_STRING.search(source) is not None:
        return None
    clean = _STRINGS_AND_COMMENTS.sub(_blank, source).split("\n")
    start = _last_start(clean)
    if start is None:
        return None
    if _STATEMENT.match(clean[start]):
        return "", ""
    lines = source.split("\n")
    has_body = any(line.strip() for line in clean[:start])
    body = "\n".join(lines[:start]) + "\n" if has_body else ""
    return body, "\n" * start + "\n".join(lines[start:])


def _blank(found: re.Match[str]) -> str:
    return "" if found[0][0] == "#" else "0"


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
