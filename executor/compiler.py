"""A cell's text to code objects: its body, and its last expression apart from the body."""

from __future__ import annotations
import __future__

import ast
import re
import warnings
import weakref
from collections import OrderedDict
from contextlib import suppress
from inspect import CO_COROUTINE
from types import CodeType

from executor.callbacks import mentions_callbacks
from executor.lines import drop_lines, is_registered, register_lines
from executor.routing import Route
from executor.source import (
    TLA_FLAG,
    check_source,
    nested_codes,
    parse,
    refuse_depth,
    with_text,
)
from executor.tails import split_last
from executor.transforms import Rewrite, is_missing_async, rewrite

__all__ = ["CellCompiler", "CompiledCell", "compile_cell", "rewritten_tree"]

FUTURE_FLAGS: int = 0
for _feature in __future__.all_feature_names:
    FUTURE_FLAGS |= getattr(__future__, _feature).compiler_flag

# It begins with a plain word, which is searched for faster than a boundary.
_ASYNCIO_CALL = re.compile(r"asyncio(?<!\wasyncio)\.\w+\(")

# Cells are short; a loop that repeats more different ones than this gains little from a cache.
_MAX_CACHED_CELLS = 256
_MAX_CACHED_CHARS = 1024 * 1024


class CompiledCell:
    """A cell that is ready to run any number of times.

    Attributes:
        source: The text that was compiled.
        filename: What tracebacks call it: the session, and the cell that had this text first.
        number: The number of that cell.
        codes: The code objects to run, in order: these two.
        body: Code of all statements but a last expression, or None.
        last: Code of the last expression, or None.
        body_awaits: Whether ``body`` evaluates to a coroutine, which is to be awaited.
        last_awaits: Whether ``last`` does.
        is_silent: Whether a trailing semicolon silences the value.
        future_flags: The ``__future__`` features that are on after this cell.
        rewrites: What was changed to make CPython accept the cell.
        helpers: Names to be removed from the namespace after the cell.
        may_call: Whether there can be a call in it that is worth timing.
        may_schedule: Whether it may hand the loop a callback.
        parse_flags: The ``__future__`` features that it was parsed with.
        tree: The syntax tree, if one was needed; dropped once the cell has been routed.
        is_examined: Whether it was looked at for :mod:`executor.innocence`.
        plain_names: The names it may look up, where a glance is enough to know them.
        defines_at: What :func:`~executor.innocence.only_defines` answered; -1 for None.
        route: Where it ran last, or None.
        route_names: The names that this may depend on, once it has run twice.
        route_meaning: What those names meant.
    """

    codes: tuple[CodeType, ...] = ()
    body: CodeType | None = None
    last: CodeType | None = None
    body_awaits = False
    last_awaits = False
    is_coroutine = False
    is_silent = False
    future_flags = 0
    parse_flags = 0
    rewrites: tuple[Rewrite, ...] = ()
    helpers: tuple[str, ...] = ()
    tree: ast.Module | None = None
    is_examined = False
    plain_names: tuple[str, ...] | None = None
    defines_at: int | None = None
    route: Route | None = None
    route_names: tuple[str, ...] | None = None
    route_meaning: tuple[int, ...] = ()

    def __init__(self, source: str, filename: str, number: int) -> None:
        self.source = source
        self.filename = filename
        self.number = number
        calls = source.count("(")
        if calls and "asyncio." in source:
            # Functions of asyncio give the loop back; only what else is called can hold it.
            calls -= len(_ASYNCIO_CALL.findall(source))
        self.may_call = calls > 0 or "@" in source
        self.may_schedule = calls > 0 and mentions_callbacks(source)

    def complete(self) -> None:
        """Work out what follows from ``body`` and ``last``, now that they are known."""
        body, last = self.body, self.last
        if body is not None:
            self.codes = (body,) if last is None else (body, last)
            self.body_awaits = bool(body.co_flags & CO_COROUTINE)
        elif last is not None:
            self.codes = (last,)
        if last is not None:
            self.last_awaits = bool(last.co_flags & CO_COROUTINE)
        self.is_coroutine = self.body_awaits or self.last_awaits


def compile_cell(source: str, filename: str, number: int, flags: int) -> CompiledCell:
    """Compile all of a cell before any of it runs.

    Args:
        source: Text that :func:`~executor.source.check_source` has let through.
        filename: What tracebacks are to call it.
        number: Its number in the session.
        flags: The ``__future__`` features that earlier cells have turned on.

    Raises:
        SyntaxError: CPython rejects the cell, and no safe change makes it acceptable.
    """
    cell = CompiledCell(source, filename, number)
    cell.parse_flags = flags
    if _compile_text(cell, flags):
        return cell
    if split_last(source) is None:
        return _compile_tree(cell, flags)
    # The text was compiled in vain: whatever it warned of is not to be shown again.
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always", SyntaxWarning)
        _compile_text(cell, flags)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", SyntaxWarning)
        _compile_tree(cell, flags)
    seen = {(str(warning.message), warning.lineno) for warning in shown}
    for warning in found:
        key = (str(warning.message), warning.lineno)
        if key not in seen:
            seen.add(key)
            warnings.warn_explicit(warning.message, warning.category, filename, warning.lineno)
    return cell


def _compile_tree(cell: CompiledCell, flags: int) -> CompiledCell:
    """Compile a cell by its tree, which is what every cell can be compiled by."""
    source, filename = cell.source, cell.filename
    tree = parse(source, filename, flags)
    try:
        _compile_parts(cell, tree, flags)
    except SyntaxError as error:
        if not is_missing_async(error) or not _compile_rewritten(cell, tree, flags):
            raise with_text(error, source) from None
    except (RecursionError, MemoryError):
        refuse_depth(source, filename)
    cell.complete()
    cell.tree = tree
    return cell


def _compile_text(cell: CompiledCell, flags: int) -> bool:
    """Compile a cell without a tree; False where that takes one, or where it fails."""
    parts = split_last(cell.source)
    if parts is None:
        return False
    body, last = parts
    filename, compile_flags = cell.filename, flags | TLA_FLAG
    try:
        if last:
            # Not an expression after all: then the whole of it is statements.
            try:
                cell.last = compile(last, filename, "eval", compile_flags, True)
            except SyntaxError:
                if "*" in last:
                    return False  # `*values,` is an expression to a tree, and none to "eval"
        if cell.last is None:
            cell.body = compile(cell.source, filename, "exec", compile_flags, True)
        elif body:
            cell.body = compile(body, filename, "exec", compile_flags, True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        cell.body = cell.last = None
        return False
    cell.future_flags = flags
    cell.complete()
    return True


def rewritten_tree(cell: CompiledCell) -> ast.Module:
    """Parse a compiled cell once more, to the tree that was compiled."""
    tree = parse(cell.source, cell.filename, cell.parse_flags)
    if cell.rewrites:
        rewrite(tree)
    return tree


def _compile_rewritten(cell: CompiledCell, tree: ast.Module, flags: int) -> bool:
    """Compile again after the fallback; False where that helps nothing."""
    try:
        shown = _warnings_of(cell, tree, flags)
        changes, helpers = rewrite(tree)
        if not changes:
            return False
        found = _warnings_of(cell, tree, flags)
        _compile_quietly(cell, tree, flags)
    except (SyntaxError, RecursionError, MemoryError):
        return False
    # The first attempt ended at the error, so it has shown only what it came across before that.
    for warning in found[len(shown) :]:
        warnings.warn_explicit(warning.message, warning.category, cell.filename, warning.lineno)
    cell.rewrites = tuple(changes)
    cell.helpers = tuple(dict.fromkeys(helpers))
    return True


def _warnings_of(cell: CompiledCell, tree: ast.Module, flags: int) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as found, suppress(SyntaxError):
        warnings.simplefilter("always", SyntaxWarning)
        _compile_parts(cell, tree, flags)
    return found


def _compile_quietly(cell: CompiledCell, tree: ast.Module, flags: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        _compile_parts(cell, tree, flags)


def _compile_parts(cell: CompiledCell, tree: ast.Module, flags: int) -> None:
    flags |= TLA_FLAG
    statements = tree.body
    last = statements[-1] if statements else None
    if not isinstance(last, ast.Expr):
        cell.body = compile(tree, cell.filename, "exec", flags, True)
    else:
        if len(statements) > 1:
            body = ast.Module(statements[:-1], tree.type_ignores)
            cell.body = compile(body, cell.filename, "exec", flags, True)
            # An import from __future__ among the statements holds for the expression too.
            flags |= cell.body.co_flags & FUTURE_FLAGS
        cell.last = compile(ast.Expression(last.value), cell.filename, "eval", flags, True)
        cell.is_silent = ";" in cell.source and _is_silenced(cell.source, last)
    if cell.body is not None:
        flags |= cell.body.co_flags & FUTURE_FLAGS
    cell.future_flags = flags & FUTURE_FLAGS


def _is_silenced(source: str, last: ast.Expr) -> bool:
    """Whether a semicolon follows the last expression, at whose end only blanks can stand."""
    if "\r" in source:
        source = source.replace("\r\n", "\n").replace("\r", "\n")
    assert last.end_lineno is not None  # parsed trees have positions
    assert last.end_col_offset is not None
    line = source.split("\n", last.end_lineno)[last.end_lineno - 1 :]
    rest = line[0].encode()[last.end_col_offset :].decode() + "\n" + "".join(line[1:])
    return rest.lstrip(" \t\f\\\n").startswith(";")


class CellCompiler:
    """Compiles the cells of one session, each text once.

    Args:
        session: What file names call the session.
    """

    def __init__(self, session: str) -> None:
        self._session = "".join(each if each.isprintable() else "?" for each in session)
        self._cells: OrderedDict[tuple[str, int], CompiledCell] = OrderedDict()
        self._cached_size_chars = 0
        self.future_flags = 0
        # A session that nobody closed leaves no lines behind either.
        weakref.finalize(self, _drop_all, self._cells).atexit = False

    def compile(self, source: object, number: int) -> CompiledCell:
        """Return the compiled cell for ``source``, from the cache if it was run before.

        Args:
            source: What was given to ``execute()``.
            number: The number of the cell that is about to run.

        Raises:
            TypeError: ``source`` is not a ``str``.
            SyntaxError: ``source`` cannot be compiled.
        """
        if type(source) is str:
            key = (source, self.future_flags)
            cell = self._cells.get(key)
            if cell is not None:
                self._cells.move_to_end(key)
                return cell
        filename = f"<sostenuto {self._session} cell {number}>"
        text = check_source(source, filename)
        if is_registered(filename):
            filename = self._another(filename)
        register_lines(text, filename)  # before it is compiled: warnings show the line
        try:
            cell = compile_cell(text, filename, number, self.future_flags)
        except BaseException:
            drop_lines(filename, [])
            raise
        self._store((text, self.future_flags), cell)
        return cell

    def preview(self, source: object) -> CompiledCell:
        """Compile without leaving a trace of it: for questions about source that does not run.

        Raises:
            TypeError: ``source`` is not a ``str``.
            SyntaxError: ``source`` cannot be compiled.
        """
        filename = f"<sostenuto {self._session} preview>"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return compile_cell(check_source(source, filename), filename, 0, self.future_flags)

    def clear(self) -> None:
        """Forget all cells; their lines stay for as long as their functions do."""
        _drop_all(self._cells)
        self._cached_size_chars = 0

    def _another(self, filename: str) -> str:
        """A file name of its own, where another session has the same name and number."""
        suffix = 2
        start, _, end = filename.rpartition(" cell ")
        while is_registered(f"{start} #{suffix} cell {end}"):
            suffix += 1
        return f"{start} #{suffix} cell {end}"

    def _store(self, key: tuple[str, int], cell: CompiledCell) -> None:
        self._cells[key] = cell
        self._cached_size_chars += len(cell.source)
        while len(self._cells) > _MAX_CACHED_CELLS or (
            self._cached_size_chars > _MAX_CACHED_CHARS and len(self._cells) > 1
        ):
            self._cached_size_chars -= _drop_oldest(self._cells)


type _Cells = OrderedDict[tuple[str, int], CompiledCell]


def _drop_oldest(cells: _Cells) -> int:
    """Forget the cell that was used longest ago, and answer how many characters it had."""
    (source, _), oldest = cells.popitem(last=False)
    filename = oldest.filename
    codes = [weakref.ref(code) for top in oldest.codes for code in nested_codes(top)]
    del oldest
    drop_lines(filename, codes)
    return len(source)


def _drop_all(cells: _Cells) -> None:
    while cells:
        _drop_oldest(cells)
