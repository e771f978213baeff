"""Recorded failures: readable by everyone, and themselves again where that is safe."""

import asyncio
import json
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import RemoteError
from durable.failures import decode_failure, encode_failure, failure_notes
from durable.signing import SigningKey
from durable.values import ValueCodec

pytestmark = pytest.mark.unit

KEY = SigningKey.generate()


@pytest.fixture
def codec():
    return ValueCodec(lambda: KEY)


def stored(exc, codec, namespace=None):
    data = encode_failure(exc, codec, namespace=namespace)
    return msgspec.json.decode(msgspec.json.encode(data))


def through(exc, codec, namespace=None):
    return decode_failure(stored(exc, codec, namespace), codec, namespace=namespace)


def caught(function):
    try:
        function()
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


class TwoArgumentsError(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} {right}")
        self.left = left


class OwnReductionError(Exception):
    def __init__(self, code):
        super().__init__("text")
        self.code = code

    def __reduce__(self):
        return OwnReductionError, (self.code,)


class SlottedError(ValueError):
    __slots__ = ("code",)


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("mute")

    __repr__ = __str__


class OddOSError(OSError):
    def __init__(self, path):
        super().__init__(5, "odd", path)


def with_attributes(exc, **attributes):
    for name, value in attributes.items():
        setattr(exc, name, value)
    return exc


CASES = [
    ValueError("plain"),
    ValueError(),
    KeyError("key"),
    KeyError(("a", 1)),
    OSError(2, "no such file", "name"),
    caught(lambda: Path("/nonexistent/file").read_bytes()),
    StopIteration(4),
    StopAsyncIteration(),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError("why"),
    TimeoutError(),
    caught(lambda: compile("a b", "file.py", "exec")),
    caught(lambda: b"\xff".decode()),
    caught(lambda: json.loads("{")),
    caught(lambda: undefined_name),  # noqa: F821 - its NameError is the case
    caught(lambda: (1).missing),
    caught(lambda: __import__("no_such_module_here")),
    subprocess.CalledProcessError(1, "cmd", "out"),
    TwoArgumentsError(1, 2),
    OwnReductionError(7),
    OddOSError("p"),
    with_attributes(SlottedError("s"), code=5),
    with_attributes(ValueError("v"), seen={1, 2}),
    UnicodeError("lone \ud800"),
    ValueError(float("nan"), (1, 2), {3}),
]


def visible(exc):
    names = "errno strerror filename code value lineno offset text name path msg doc pos start left"
    shown = {n: getattr(exc, n) for n in [*names.split(), "seen"] if hasattr(exc, n)}
    return type(exc), repr(exc.args), str(exc), shown


@pytest.mark.parametrize("exc", CASES, ids=lambda e: f"{type(e).__name__}-{len(e.args)}")
def test_an_exception_comes_back_with_its_type_arguments_and_attributes(exc, codec):
    assert visible(through(exc, codec)) == visible(exc)


def test_every_record_has_its_message_type_notes_and_traceback_as_plain_text(codec):
    def fail():
        raise TwoArgumentsError("left", "right")

    exc = caught(fail)
    exc.add_note("after 3 attempts")
    data = stored(exc, codec)
    assert data["message"] == "left right"
    assert data["type"] == f"{__name__}.TwoArgumentsError"
    assert failure_notes(data) == ["after 3 attempts"]
    assert 'raise TwoArgumentsError("left", "right")' in data["traceback"]
    assert "__py_pickle" not in data
    assert through(exc, codec).__notes__ == ["after 3 attempts"]


def test_builtin_exceptions_need_no_signature_and_no_key():
    def no_key():
        raise AssertionError("the key was asked for")

    codec = ValueCodec(no_key)
    assert through(KeyError("k"), codec).args == ("k",)


def test_cause_context_and_suppression_come_back(codec):
    def with_cause():
        try:
            _ = {}["k"]
        except KeyError as exc:
            raise ValueError("v") from exc

    def with_context():
        try:
            _ = {}["k"]
        except KeyError:
            raise ValueError("v")  # noqa: B904 - the implicit context is the case

    def suppressed():
        try:
            _ = {}["k"]
        except KeyError:
            raise ValueError("v") from None

    one = through(caught(with_cause), codec)
    assert type(one.__cause__) is KeyError
    two = through(caught(with_context), codec)
    assert type(two.__context__) is KeyError
    assert two.__cause__ is None
    assert not two.__suppress_context__
    assert through(caught(suppressed), codec).__suppress_context__


def test_a_group_comes_back_with_its_members_types_and_notes(codec):
    inner = TwoArgumentsError(1, 2)
    inner.add_note("inner note")
    exc = ExceptionGroup("two", [ValueError(1), ExceptionGroup("deeper", [inner])])
    again = through(exc, codec)
    assert type(again) is ExceptionGroup
    assert again.message == "two"
    found = again.exceptions[1].exceptions[0]
    assert (type(found), found.left, found.__notes__) == (TwoArgumentsError, 1, ["inner note"])


def test_an_exception_of_a_class_in_the_source_is_caught_by_the_live_class(codec):
    source = (
        "class MyError(Exception):\n    def __init__(self, a, b): super().__init__(a); self.b = b"
    )
    first, second = {"__name__": "__main__"}, {"__name__": "__main__"}
    exec(source, first)
    data = stored(first["MyError"](1, 2), codec, first)
    exec(source, second)
    again = decode_failure(data, codec, namespace=second)
    assert type(again) is second["MyError"]
    assert (again.args, again.b) == ((1,), 2)
    elsewhere = decode_failure(data, codec)
    assert type(elsewhere).__name__ == "MyError"
    assert elsewhere.b == 2


def test_what_cannot_be_stored_is_left_out_and_the_rest_kept(codec):
    exc = with_attributes(ValueError("m", threading.Lock()), lock=threading.Lock(), kept=3)
    again = through(exc, codec)
    assert type(again) is ValueError
    assert again.args[0] == "m"
    assert "lock" in again.args[1]
    assert again.kept == 3
    assert not hasattr(again, "lock")


def test_an_exception_whose_text_raises_is_recorded(codec):
    data = stored(MuteError(), codec)
    assert "MuteError" in data["message"]
    assert type(decode_failure(data, codec)) is MuteError


def test_a_deep_recursion_and_a_long_chain_are_recorded_within_bounds(codec):
    def recurse():
        recurse()

    data = stored(caught(recurse), codec)
    assert "frames left out" in data["traceback"]
    exc = ValueError("0")
    for n in range(1, 500):
        exc = with_attributes(ValueError("x" * 100 + str(n)), __cause__=exc)
    assert len(json.dumps(stored(exc, codec))) < 100_000
    assert through(exc, codec).args == exc.args


def test_an_exception_that_holds_itself_is_recorded(codec):
    exc = ValueError("v")
    exc.args = ("v", exc)
    exc.me = exc
    again = through(exc, codec)
    assert type(again) is ValueError
    assert again.args[0] == "v"


def test_an_error_of_this_package_comes_back_with_its_attributes(codec):
    exc = RemoteError("gone", type_name="m.E", notes=["n"])
    again = through(exc, codec)
    assert type(again) is RemoteError
    assert (again.message, again.type_name, again.notes) == ("gone", "m.E", ["n"])
    assert str(again) == str(exc)


def test_a_circle_of_causes_ends(codec):
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert through(one, codec).__cause__.args == ("two",)


def test_foreign_and_tampered_failures_become_a_typed_error_with_their_text(codec):
    data = stored(TwoArgumentsError(1, 2), codec)
    data["notes"] = ["note"]
    foreign = ValueCodec(SigningKey.generate)
    again = decode_failure(data, foreign)
    assert type(again) is RemoteError
    assert again.message == "1 2"
    assert again.type_name.endswith("TwoArgumentsError")
    assert again.notes == again.__notes__ == ["note"]
    data["rebuild"]["value"]["args"] = ["changed"]
    assert type(decode_failure(data, codec)) is RemoteError


def test_a_signed_value_cannot_be_passed_off_as_a_failure(codec):
    value = codec.encode({"class": TwoArgumentsError, "args": [], "attributes": {}}, where="here")
    assert type(decode_failure({"message": "m", "rebuild": value}, codec)) is RemoteError


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "int", "nothing"])
def test_unsigned_data_cannot_stop_the_process_that_reads_it(codec, name):
    builtin = {"__sostenuto__": "builtin", "name": name}
    data = {"message": "m", "rebuild": {"class": builtin, "args": [], "attributes": {}}}
    assert type(decode_failure(data, codec)) is RemoteError


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["message", "notes", "group", "cause", "rebuild", "class", "args", "x"])
            | st.just("__sostenuto__"),
            inner | st.sampled_from(["sealed", "builtin", "ValueError", "same", "tuple"]),
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_decoding_never_raises_whatever_the_data(data):
    codec = ValueCodec(lambda: KEY)
    assert isinstance(decode_failure(data, codec), BaseException)
    assert isinstance(failure_notes(data), list)
