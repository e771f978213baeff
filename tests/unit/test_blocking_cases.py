"""Every labelled cell is routed as its label says, with and without its earlier cell's source."""

from __future__ import annotations

import ast

import pytest
from blocking_cases import Case, namespace_after, read_cases

from executor.modes import ExecutionMode
from executor.routing import analyze, route

pytestmark = pytest.mark.unit

MODES = {
    "blocks": ExecutionMode.BLOCKING_SYNC,
    "plain": ExecutionMode.SIMPLE_SYNC,
    "async": ExecutionMode.ASYNC_DEF,
}
CASES = read_cases()
FEWEST_CASES = 540  # as many as the labelled corpora that such a detector is measured by


def test_there_are_enough_cases_of_every_label() -> None:
    assert len(CASES) >= FEWEST_CASES
    assert {case.expected for case in CASES} == set(MODES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cell_is_routed_as_labelled(case: Case) -> None:
    namespace = namespace_after(case.setup, with_source=True)
    before = dict(namespace)
    found = analyze(case.source, namespace)
    assert found.mode is MODES[case.expected], found.reason
    assert found == route(ast.parse(case.source), namespace, is_coroutine=False)
    assert namespace.keys() == before.keys()
    assert all(namespace[name] is before[name] for name in before)


@pytest.mark.parametrize("case", [case for case in CASES if case.setup], ids=str)
def test_cell_is_routed_as_labelled_by_code_objects_alone(case: Case) -> None:
    namespace = namespace_after(case.setup, with_source=False)
    assert analyze(case.source, namespace).mode is MODES[case.expected]
