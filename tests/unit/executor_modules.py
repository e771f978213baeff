"""Generated synchronous modules, and what running one ends with."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from hypothesis import strategies as st

from executor import ENGINE_INTERNALS, AsyncExecutor, OutputMessage

NAMES = st.sampled_from(["a", "b", "c", "f", "g"])
NUMBERS = st.integers(-3, 9).map(str)


def _expressions() -> st.SearchStrategy[str]:
    atoms = NAMES | NUMBERS | st.sampled_from(["'s'", "[]", "None", "len", "f()", "g(2)"])
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
            st.builds("[{} for {} in range(2)]".format, inner, NAMES),
            st.builds("({} if {} else {})".format, inner, inner, inner),
            st.builds("(lambda {}: {})(1)".format, NAMES, inner),
            st.builds("({} := {})".format, NAMES, inner),
            st.builds("{{'k': {}}}".format, inner),
        ),
        max_leaves=5,
    )


EXPRESSIONS = _expressions()
SIMPLE = st.one_of(
    st.builds("{} = {}".format, NAMES, EXPRESSIONS),
    st.builds("{} += {}".format, NAMES, EXPRESSIONS),
    st.builds("{}: int = {}".format, NAMES, EXPRESSIONS),
    st.builds("del {}".format, NAMES),
    st.builds("print(repr({})[:40])".format, EXPRESSIONS),
    st.builds("{}".format, EXPRESSIONS),
    st.builds("global {}".format, st.sampled_from(["d", "e"])),
    st.builds("import math as {}".format, NAMES),
    st.builds("{0}, *{1} = range(3)".format, NAMES, NAMES),
    st.just("raise ValueError('raised')"),
    st.just("pass"),
)


def _block(body: list[str]) -> str:
    return "\n".join("    " + line for each in body for line in each.splitlines())


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bodies = st.lists(inner, min_size=1, max_size=3).map(_block)
    return st.one_of(
        st.builds("if {}:\n{}\nelse:\n{}".format, EXPRESSIONS, bodies, bodies),
        st.builds("for {} in range(2):\n{}".format, NAMES, bodies),
        st.builds("try:\n{}\nexcept Exception as {}:\n{}".format, bodies, NAMES, bodies),
        st.builds("try:\n{}\nfinally:\n{}".format, bodies, bodies),
        st.builds("def f():\n{}".format, bodies),
        st.builds(
            "def g(x):\n    global {}\n{}\n    return x".format, st.sampled_from(["d", "e"]), bodies
        ),
        st.builds("class C:\n{}".format, bodies),
    )


STATEMENTS = st.one_of(SIMPLE, _compound(SIMPLE), _compound(_compound(SIMPLE)))


@st.composite
def modules(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    """A module as its statements, and the places to cut it at.

    A module that does not compile as a whole may still run in part when cut, so such ones are
    left out.
    """
    statements = draw(st.lists(STATEMENTS, min_size=1, max_size=7).filter(_compiles))
    cuts = draw(st.lists(st.integers(1, len(statements)), unique=True).map(sorted))
    return statements, cuts


def _compiles(statements: list[str]) -> bool:
    try:
        compile("\n".join(statements), "<generated>", "exec", 0, True)
    except SyntaxError:
        return False
    return True


def _visible(namespace: dict[str, Any]) -> dict[str, str]:
    """Names with what they are bound to, addresses aside."""
    return {
        name: _shape(value)
        for name, value in namespace.items()
        if not (name.startswith("__") and name.endswith("__"))
        and name not in ENGINE_INTERNALS
        and name != "asyncio"
    }


def _shape(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, int | str | float | list | dict | type(None)):
        try:
            return f"{kind} {value!r}".split(" at 0x")[0]
        except RecursionError:
            return kind
    return f"{kind} {getattr(value, '__name__', '')}"


def run_with_exec(source: str) -> tuple[dict[str, str], str, str]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    output, error = io.StringIO(), ""
    with contextlib.redirect_stdout(output):
        try:
            exec(compile(source, "<generated>", "exec", 0, True), namespace)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    return _visible(namespace), _no_addresses(output.getvalue()), _no_addresses(error)


async def run_with_executor(
    statements: list[str], cuts: list[int]
) -> tuple[dict[str, str], str, str]:
    written: list[str] = []

    class Sink:
        def send(self, message: object) -> None:
            if isinstance(message, OutputMessage):
                written.append(message.text)

    error = ""
    starts = [0, *cuts]
    ends = [*cuts, len(statements)]
    async with AsyncExecutor(transport=Sink()) as executor:
        for start, end in zip(starts, ends, strict=True):
            try:
                await executor.execute("\n".join(statements[start:end]))
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"
                break
        return (
            _visible(executor.namespace.namespace),
            _no_addresses("".join(written)),
            _no_addresses(error),
        )


def _no_addresses(text: str) -> str:
    return text.split(" at 0x")[0]
