"""Every cell of the case files does what stands beside it."""

from __future__ import annotations

import pytest

from executor import AsyncExecutor, OutputMessage
from tests.unit.executor_cases import Case, load

pytestmark = pytest.mark.unit

CASES = load()


class Recorder:
    def __init__(self) -> None:
        self.text = ""

    def send(self, message: object) -> None:
        if isinstance(message, OutputMessage) and message.stream == "stdout":
            self.text += message.text


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
async def test_each_cell_of_a_case_does_what_stands_beside_it(case: Case) -> None:
    recorder = Recorder()
    async with AsyncExecutor(transport=recorder, timeout=10) as executor:
        for cell in case.cells:
            recorder.text = ""
            if cell.error is None:
                value = await executor.execute(cell.source)
                assert cell.value == "*" or repr(value) == cell.value
            else:
                kind, _, message = cell.error.partition(": ")
                with pytest.raises(BaseException) as caught:
                    await executor.execute(cell.source)
                assert type(caught.value).__name__ == kind
                if message:
                    shown = caught.value
                    assert message == (shown.msg if isinstance(shown, SyntaxError) else str(shown))
            assert recorder.text == cell.output


def test_there_are_several_hundred_cells() -> None:
    assert sum(len(case.cells) for case in CASES) > 300
