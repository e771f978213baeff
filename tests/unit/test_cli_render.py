"""What the command line prints of records, durations and text that others wrote."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.cli.copying import Copying
from durable.cli.exits import Exit, ExitCode
from durable.cli.progress import Activity
from durable.cli.render import failure_lines
from durable.cli.source_files import SourceText, default_id, parse_duration
from durable.cli.terminal import fitted, printable, span
from durable.cli.transfer import _file_name
from durable.cli.upkeep import size_text
from durable.events import Event, EventKind
from durable.failures import encode_failure
from durable.signing import SigningKey
from durable.values import ValueCodec

pytestmark = pytest.mark.unit


def recorded(error: BaseException) -> list[str]:
    return failure_lines(encode_failure(error, ValueCodec(SigningKey.generate)))


def raised(action: object) -> BaseException:
    try:
        action()  # type: ignore[operator]
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def fails() -> None:
    error = ValueError("two\nlines")
    error.add_note("a note")
    raise error


def fails_with_cause() -> None:
    try:
        fails()
    except ValueError as error:
        raise OSError("outer") from error


def fails_in_handler() -> None:
    try:
        fails()
    except ValueError:
        raise OSError("outer")  # noqa: B904 - the implicit context is what is shown


def fails_hiding() -> None:
    try:
        fails()
    except ValueError:
        raise OSError("outer") from None


@pytest.mark.parametrize("action", [fails, fails_with_cause, fails_in_handler, fails_hiding])
def test_a_failure_reads_as_python_prints_it(action: object) -> None:
    error = raised(action)
    python = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    # Lines of ^ and ~ below a line of code depend on the columns that a traceback knows.
    marks = set("^~")
    assert [line for line in recorded(error) if not set(line.strip()) <= marks or not line] == [
        line for line in python if not set(line.strip()) <= marks or not line
    ]


def test_members_of_a_group_are_shown_below_it() -> None:
    lines = recorded(ExceptionGroup("both", [ValueError("a"), TypeError("b")]))
    text = "\n".join(lines)
    assert text.index("both") < text.index("ValueError: a") < text.index("TypeError: b")


@given(st.text())
def test_no_text_can_move_the_cursor_or_break_a_line(text: str) -> None:
    shown = printable(text)
    assert "\n" not in shown
    assert all(char >= " " and char != "\x7f" and not "\x80" <= char < "\xa0" for char in shown)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5h", 5400), ("500ms", 0.5), ("30d", 2_592_000), (" 1 w ", 604_800)],
)
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "soon", "1y", "1h30m", "nan", "1e3", "37000d", "9" * 30 + "w"]
)
def test_what_is_no_duration_is_refused_with_the_option_it_was_given_for(text: str) -> None:
    with pytest.raises(Exit, match="--older-than") as caught:
        parse_duration(text, "--older-than")
    assert caught.value.code is ExitCode.USAGE


@given(
    st.lists(st.integers(1, 90), min_size=3, max_size=7), st.integers(min_value=0, max_value=300)
)
def test_columns_fit_their_room_as_far_as_they_can_be_read(natural: list[int], room: int) -> None:
    widths = fitted(natural, room)
    least = [min(width, 12) if n in {0, 2} else width for n, width in enumerate(natural)]
    least[-1] = 0
    assert sum(widths) <= max(room, sum(least))
    assert all(
        low <= width <= high for low, width, high in zip(least, widths, natural, strict=True)
    )
    if sum(natural) <= room:
        assert widths == natural


def test_ids_of_files_follow_their_path_and_ids_of_code_its_text() -> None:
    one, two = SourceText("1", Path("/a/job.py")), SourceText("1", Path("/b/job.py"))
    assert default_id(one).startswith("job-")
    assert default_id(one) != default_id(two)
    assert default_id(one) == default_id(SourceText("2", Path("/a/job.py")))
    assert default_id(SourceText("1", None)) != default_id(SourceText("2", None))


@given(st.text(min_size=1, max_size=60))
def test_ids_make_file_names_that_stay_in_their_directory(id: str) -> None:
    name = _file_name(id)
    assert "/" not in name
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, ""), (0, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (600_000, "10.0 min"),
     (36_000_000, "10.0 h"), (864_000_000, "10.0 d")],
)  # fmt: skip
def test_durations_are_shown_in_a_unit_that_fits(milliseconds: int | None, text: str) -> None:
    assert span(milliseconds) == text


def test_sizes_are_shown_in_a_unit_that_fits() -> None:
    assert [size_text(size) for size in (0, 1023, 2048, 5 << 30)] == [
        "0 bytes", "1,023 bytes", "2.0 KiB", "5.0 GiB",
    ]  # fmt: skip


def test_progress_follows_cells_and_steps() -> None:
    activity = Activity()

    def tell(kind: EventKind, step: str = "e:1", **more: str) -> None:
        event = {"kind": kind, "execution_id": "e", "step_id": step, "name": "load", "at_ms": 0}
        activity.note(Event(**{**event, **more}))  # type: ignore[arg-type]

    tell(EventKind.CELL_STARTED, "e", detail="2 of 3, line 7")
    assert activity.cell == "cell 2 of 3, line 7: load"
    tell(EventKind.STEP_STARTED)
    assert activity.current == "load"
    tell(EventKind.STEP_FINISHED)
    tell(EventKind.STEP_REPLAYED, "e:2")
    assert activity.summary().startswith("1 step done, 1 from the store")


def test_a_long_copy_says_how_far_it_is_once_a_second(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("durable.cli.copying.time.monotonic", lambda: now)
    with Copying("runs.db") as copying:
        for done in range(0, 101, 10):
            copying.update(done, 100)
            now += 0.4
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sostenuto: 30 % of runs.db copied"
    assert len(lines) == 3
