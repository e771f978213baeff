"""Source is cut at ``# %%`` between statements, and nowhere else."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.cells import split_cells

pytestmark = pytest.mark.unit


def shown(source: str) -> list[tuple[str, int, str]]:
    return [(cell.title, cell.line, cell.text.strip()) for cell in split_cells(source)]


def test_source_without_markers_is_one_cell_and_is_left_as_it_is() -> None:
    assert [cell.text for cell in split_cells("x = 1\r\nx")] == ["x = 1\r\nx"]


def test_a_marker_starts_a_cell_with_its_title() -> None:
    source = "a = 1\n# %% load the data\nb = 2\n#%%\nc = 3\n"
    assert shown(source) == [
        ("", 1, "a = 1"),
        ("load the data", 2, "# %% load the data\nb = 2"),
        ("", 4, "#%%\nc = 3"),
    ]


def test_a_marker_inside_a_string_a_bracket_or_a_block_is_no_marker() -> None:
    source = (
        's = """\n# %% no\n"""\nx = [\n# %% no\n1]\nif x:\n# %% no\n    y = 2\n# %% yes\nz = 3\n'
    )
    assert [title for title, _, _ in shown(source)] == ["", "yes"]


def test_a_marker_between_a_decorator_and_its_function_is_no_marker() -> None:
    assert len(shown("import functools\n@functools.cache\n# %% no\ndef f(): ...\n")) == 1


def test_cells_without_code_are_left_out() -> None:
    assert shown("# %% notes only\n# text\n# %% code\nx\n# %%\n") == [("code", 3, "# %% code\nx")]


def test_source_that_does_not_parse_is_one_cell_for_python_to_refuse() -> None:
    source = "# %% a\nx =\n# %% b\n"
    assert [cell.text for cell in split_cells(source)] == [source]


def test_line_numbers_of_cells_are_those_of_the_source() -> None:
    source = "\x0ca = 1\n# %% two\n\nraise ValueError\n"
    last = split_cells(source)[-1]
    assert ast.parse(last.text).body[0].lineno == 4


@given(st.lists(st.sampled_from(["x = 1", "# %% t", "", "s = '''", "'''", "if x:", "    y = 2"])))
def test_cells_hold_every_statement_once_and_in_order(lines: list[str]) -> None:
    source = "\n".join(lines)
    try:
        whole = ast.parse(source)
    except SyntaxError:
        return
    pieces = [node for cell in split_cells(source) for node in ast.parse(cell.text).body]
    assert [(node.lineno, ast.dump(node)) for node in pieces] == [
        (node.lineno, ast.dump(node)) for node in whole.body
    ]
