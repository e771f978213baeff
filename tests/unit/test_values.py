"""Stored values: readable where JSON will do, typed everywhere, never run unsigned."""

import asyncio
import base64
import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import http
import io
import ipaddress
import math
import os
import pathlib
import pickle
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
import typing
import zoneinfo

import msgspec
import pandas as pd
import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durable.errors import ForeignPayloadError, UndecodableValueError, UnserializableValueError
from durable.signing import SigningKey
from durable.values import ValueCodec

pytestmark = pytest.mark.unit

KEY = SigningKey.generate()
CODEC = ValueCodec(lambda: KEY)


def no_key():
    raise AssertionError("the key was asked for")


KEYLESS = ValueCodec(no_key)


def stored(value, codec=CODEC, namespace=None):
    data = codec.encode(value, where="step 'fetch'", namespace=namespace)
    return msgspec.json.decode(msgspec.json.encode(data))


def through(value, codec=CODEC, namespace=None):
    return codec.decode(stored(value, codec, namespace), namespace=namespace)


def same(one, other):
    """Equal with equal types all the way down; nan is nan, and zeros have their sign."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(k, j) and same(v, w)
            for (k, v), (j, w) in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, complex):
        return repr(one) == repr(other)
    if isinstance(one, dt.datetime):
        zones = one.tzinfo, other.tzinfo
        return one == other and one.fold == other.fold and repr(zones[0]) == repr(zones[1])
    if isinstance(one, decimal.Decimal):
        return one.as_tuple() == other.as_tuple()
    return bool(one == other)


# --- what JSON carries ------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(json_values)
def test_what_json_carries_is_stored_as_that_very_json(value):
    assert KEYLESS.encode(value, where="x") is value
    assert same(through(value, KEYLESS), value)


@pytest.mark.parametrize("value", [2**53 + 1, 2**64 + 1, -(10**4000), -0.0, 5e-324, 1e308])
def test_numbers_json_can_write_stay_numbers(value):
    assert KEYLESS.encode(value, where="x") is value
    assert same(through(value, KEYLESS), value)


def test_json_of_any_shape_deep_and_wide_stays_json():
    deep = []
    for _ in range(250):
        deep = [deep]
    assert KEYLESS.encode(deep, where="x") is deep
    assert through(deep, KEYLESS) == deep


@given(
    st.recursive(
        st.sampled_from(["sealed", "same", "tuple", "class", "pickled", 1, None]),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(["__sostenuto__", "items", "value", "as", "__type", "signature"]),
                inner,
            )
            | st.lists(inner, max_size=3)
        ),
    )
)
def test_users_data_that_looks_like_our_forms_comes_back_as_it_was(value):
    assert same(through(value, KEYLESS), value)


# --- readable typed forms ---------------------------------------------------------------

zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu"]).map(zoneinfo.ZoneInfo),
    st.builds(
        dt.timezone,
        st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
    ),
    st.builds(dt.timezone, st.just(dt.timedelta(hours=1)), st.text(max_size=5)),
)
hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary(max_size=30)
    | st.complex_numbers()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=zones)
    | st.times()
    | st.ip_addresses()
    | st.sampled_from([..., int, KeyError, range(1, 9, 2), pathlib.PurePosixPath("a/b")])
)
typed_values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.frozensets(hashable, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.lists(inner, max_size=4).map(collections.deque)
        | st.dictionaries(hashable, inner, max_size=3).map(collections.OrderedDict)
        | st.dictionaries(st.text(), st.integers(), max_size=3).map(collections.Counter)
        | st.dictionaries(st.text(), inner, max_size=3).map(
            lambda d: collections.defaultdict(list, d)
        )
    ),
    max_leaves=15,
)


@settings(max_examples=300)
@given(typed_values)
@example(dt.datetime(2000, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))))
@example(dt.time(1, tzinfo=dt.timezone(-dt.timedelta(seconds=1, microseconds=5))))
def test_values_of_the_standard_types_round_trip_without_key_or_pickle(value):
    again = through(value, KEYLESS)
    if "nan" in repr(value).lower():  # nan differs from itself inside sets
        assert type(again) is type(value)
        assert repr(again).count("nan") == repr(value).count("nan")
    else:
        assert same(again, value)


@pytest.mark.parametrize(
    "value",
    [
        10**6000,
        "\ud83d\ude00",
        "\udfff",
        {"\ud800": 1},
        pathlib.Path("/tmp/x"),
        pathlib.PureWindowsPath("c:\\x"),
        re.compile("a+", re.IGNORECASE | re.DOTALL),
        re.compile(b"a\xff"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("fe80::1/64"),
        slice(1, None, 2),
        bytearray(b"xyz"),
        collections.deque([1, (2,)], 5),
        types.MappingProxyType({"a": (1,)}),
        dt.UTC,
        zoneinfo.ZoneInfo("Asia/Tokyo"),
        dt.time(1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2), "X"), fold=1),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
        decimal.Decimal("sNaN123"),
        {1: {"a"}, (1, 2): frozenset({(3,)}), None: b"\0"},
        [(), (), frozenset(), frozenset()],
        complex(-0.0, math.inf),
        NotImplemented,
    ],
    ids=lambda v: type(v).__name__,
)
def test_corner_cases_of_standard_types_round_trip_without_key_or_pickle(value):
    assert same(through(value, KEYLESS), value)


def test_sets_are_written_in_one_order_whatever_their_own():
    one, other = {f"k{n}" for n in range(50)}, {f"k{n}" for n in reversed(range(50))}
    assert stored(one) == stored(other)


# --- classes ----------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    y: object = None
    cached: int = dataclasses.field(default=0, init=False)

    def __post_init__(self):
        self.calls = getattr(self, "calls", 0) + 1


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    items: tuple


class Slotted:
    __slots__ = ("__dict__", "a", "unset")

    def __eq__(self, other):
        return (self.a, vars(self)) == (other.a, vars(other))

    __hash__ = None


class Ordinary:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return self.n == other.n

    def __hash__(self):
        return hash(self.n)


class Reduced(Ordinary):
    def __reduce__(self):
        return Reduced, (self.n,)


class Colour(enum.Enum):
    RED = "red"
    TUPLE = (1, 2)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class Pair(typing.NamedTuple):
    left: int
    right: object = None


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    body: tuple = ()


class Model(pydantic.BaseModel):
    name: str
    when: dt.datetime
    _secret: int = pydantic.PrivateAttr(3)


class TextKind(str):
    __slots__ = ()


def with_slots(a):
    value = Slotted()
    value.a = a
    value.extra = {1}
    return value


def top_level_function():
    return 1


MODEL = Model(name="n", when="2026-01-01T00:00:00+00:00")

CLASSY = [
    Point(1, (2, 3)),
    [Point(1), Point(2)],
    Frozen((1, {2})),
    with_slots(b"x"),
    Ordinary(3),
    {Ordinary(3): [Ordinary(4)]},
    {Frozen((1, 2)), Frozen((3,))},
    Reduced(4),
    [Reduced(1), {"deep": Reduced(2)}],
    Colour.RED,
    Colour.TUPLE,
    Access.READ | Access.WRITE,
    Access.READ,
    Level.LOW,
    http.HTTPStatus.OK,
    Pair(1, [2]),
    Packet(kind="k", body=(1,)),
    MODEL,
    TextKind("abc"),
    Point,
    top_level_function,
    len,
    collections.defaultdict(Ordinary, a=Ordinary(1)),
    functools.partial(top_level_function),
    list[int],
    types.SimpleNamespace(a=1),
    io.BytesIO,
    sys,
]


@pytest.mark.parametrize("value", CLASSY, ids=lambda v: type(v).__name__)
def test_instances_and_names_of_importable_classes_round_trip(value):
    again = through(value)
    assert type(again) is type(value)
    assert again == value or repr(again) == repr(value)


def test_a_dataclass_is_stored_readable_and_rebuilt_without_running_its_code():
    point = Point(1, dt.date(2026, 1, 2))
    point.cached = 9
    data = stored(point)
    assert data["value"]["attributes"]["x"] == 1
    assert data["value"]["attributes"]["y"]["value"] == "2026-01-02"
    assert "pickle" not in data
    again = CODEC.decode(data)
    assert (again.cached, again.calls) == (9, 1)


def test_a_model_keeps_its_private_attributes_and_its_set_fields():
    again = through(MODEL)
    assert again == MODEL
    assert again._secret == 3
    assert again.model_fields_set == {"name", "when"}


def test_a_data_frame_round_trips_and_its_surroundings_stay_readable():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.date_range("2026", periods=2))
    data = stored({"rows": frame, "n": 2})
    assert data["value"]["n"] == 2
    assert "DataFrame" in data["value"]["rows"]["class"]
    pd.testing.assert_frame_equal(CODEC.decode(data)["rows"], frame)
    pd.testing.assert_series_equal(through(frame["a"]), frame["a"])
    assert through(frame["a"].sum()) == 3
    assert type(through(frame["a"].sum())) is type(frame["a"].sum())


# --- sharing ----------------------------------------------------------------------------


def test_objects_that_are_shared_are_shared_after_reading():
    row, point = [1], Point(1)
    again = through({"rows": [row, row], "p": (point, point), "t": {"row": row}})
    assert again["rows"][0] is again["rows"][1] is again["t"]["row"]
    assert again["p"][0] is again["p"][1]


def test_a_value_doubled_fifty_times_is_stored_in_linear_size():
    value = [1]
    for _ in range(50):
        value = [value, value]
    data = stored(value)
    assert len(msgspec.json.encode(data)) < 10_000
    assert CODEC.decode(data)[0] is not None


def test_circles_round_trip_as_a_signed_pickle():
    circle = {"list": []}
    circle["list"].append(circle)
    assert (again := through(circle))["list"][0] is again
    parent = Point(1)
    parent.y = [Point(2, parent)]
    again = through(parent)
    assert again.y[0].y is again


def test_what_a_pickle_shares_with_readable_parts_stays_shared():
    row = [1]
    again = through([row, types.SimpleNamespace(row=row)])
    assert again[1].row is again[0]


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: Point(1, v)])
def test_deep_nesting_round_trips_or_is_a_typed_error(wrap):
    for depth in (50, 150, 400, 20_000):
        value = 1
        for _ in range(depth):
            value = wrap(value)
        try:
            data = stored(value)
        except UnserializableValueError:
            assert depth > 300
            continue
        again = CODEC.decode(data)
        while type(again) is not int:
            assert type(again) is type(value)
            again = again.y if isinstance(again, Point) else again[0]


# --- what cannot be stored --------------------------------------------------------------


class Holder:
    def __init__(self, held):
        self.conn = held


class HostileReduce:
    def __reduce__(self):
        raise ZeroDivisionError("hostile")


class HostileAll:
    __slots__ = ("held",)

    def __getattribute__(self, name):
        raise ZeroDivisionError(name)

    def __repr__(self):
        raise ZeroDivisionError

    __str__ = __eq__ = __hash__ = __repr__


class Liar:
    __class__ = int

    def __reduce__(self):
        raise RuntimeError("liar")


class HostileMeta(type):
    def __getattribute__(cls, name):
        raise ZeroDivisionError(name)


def live_things():
    loop = asyncio.new_event_loop()
    try:
        yield "lock", threading.Lock()
        yield "generator", (n for n in ())
        yield "TextIOWrapper", sys.__stdout__
        yield "Lock", asyncio.Lock()
        yield "Queue", asyncio.Queue()
        yield "Future", loop.create_future()
        yield "memoryview", memoryview(b"x")
        yield "HostileReduce", HostileReduce()
        yield "Liar", Liar()
        yield "Loop", loop
        with socket.socket() as sock:
            yield "socket", sock
        with pathlib.Path(__file__).open() as file:
            yield "TextIOWrapper", file
        coroutine = asyncio.sleep(0)
        yield "coroutine", coroutine
        coroutine.close()
    finally:
        loop.close()


def test_live_things_are_refused_naming_type_place_and_step_at_once():
    for name, value in live_things():
        started = time.monotonic()
        with pytest.raises(UnserializableValueError) as caught:
            CODEC.encode({"rows": [0, 1, 2, Holder(value)]}, where="step 'fetch'")
        assert time.monotonic() - started < 5
        assert name in caught.value.type_name or name in str(caught.value)
        assert caught.value.path.startswith('result["rows"][3].conn')
        assert "step 'fetch'" in str(caught.value)
        assert "get_dependency" in str(caught.value)


def test_the_type_that_was_returned_is_named_beside_the_culprit_inside_it():
    with pytest.raises(UnserializableValueError) as caught:
        CODEC.encode(threading.Event(), where="step 'f'")
    assert "threading.Event" in str(caught.value)
    assert "lock" in caught.value.type_name


def test_the_place_is_found_inside_pickled_objects_too():
    with pytest.raises(UnserializableValueError) as caught:
        CODEC.encode([1, types.SimpleNamespace(inner=[threading.Lock()])], where="x")
    assert caught.value.path == "result[1].inner[0]"


def test_hostile_objects_give_a_value_or_a_typed_error_and_never_crash():
    hostile_class = HostileMeta("HostileClass", (), {})
    for value in (HostileAll(), [HostileAll()], {"k": HostileAll()}, object.__new__(hostile_class)):
        with contextlib.suppress(UnserializableValueError):
            CODEC.encode(value, where="x")


# --- definitions of the source ----------------------------------------------------------

SOURCE = """
import dataclasses, enum
@dataclasses.dataclass
class Job:
    n: int
    def double(self): return helper(self.n)
class Kind(enum.Enum):
    A = 1
class Base:
    pass
class Derived(Base):
    def __init__(self): self.v = 1
def helper(n): return 2 * n
def make_local():
    class Local(Base):
        pass
    return Local()
"""


def cell():
    namespace = {"__name__": "__main__"}
    exec(SOURCE, namespace)
    return namespace


def test_instances_of_the_sources_classes_are_of_the_live_class_on_replay():
    first, second = cell(), cell()
    value = [first["Job"](2), first["Kind"].A, first["Derived"](), {"f": first["helper"]}]
    again = CODEC.decode(stored(value, namespace=first), namespace=second)
    assert isinstance(again[0], second["Job"])
    assert again[0].double() == 4
    assert again[1] is second["Kind"].A
    assert isinstance(again[2], second["Base"])
    assert again[3]["f"] is second["helper"]


def test_a_local_class_of_the_source_still_has_the_live_base():
    first, second = cell(), cell()
    again = CODEC.decode(stored(first["make_local"](), namespace=first), namespace=second)
    assert isinstance(again, second["Base"])


def test_exceptions_among_results_keep_class_attributes_cause_and_notes():
    first, second = ({"__name__": "__main__"} for _ in range(2))
    source = (
        "class MyError(Exception):\n    def __init__(self, a, b): super().__init__(a); self.b = b"
    )
    exec(source, first)
    exec(source, second)
    error = first["MyError"](1, [2])
    error.__cause__ = KeyError("k")
    error.add_note("note")
    data = stored({"results": [1, error]}, namespace=first)
    again = CODEC.decode(data, namespace=second)["results"][1]
    assert type(again) is second["MyError"]
    assert (again.args, again.b, again.__notes__) == ((1,), [2], ["note"])
    assert again.__cause__.args == ("k",)


def test_an_instance_of_a_class_that_was_redefined_keeps_its_own_class():
    namespace = cell()
    old = namespace["Job"](3)
    exec("class Job:\n    pass", namespace)
    again = through(old, namespace=namespace)
    assert type(again) is not namespace["Job"]
    assert again.double() == 6
    both = through([old, namespace["Job"]()], namespace=namespace)
    assert type(both[1]) is namespace["Job"]


def test_source_in_a_namespace_without_a_name_is_source_all_the_same():
    first, second = {}, {}
    for namespace in (first, second):
        exec("class Nameless:\n    def __init__(self): self.v = 1", namespace)
    data = stored([first["Nameless"]()], namespace=first)
    assert isinstance(CODEC.decode(data, namespace=second)[0], second["Nameless"])


def test_without_the_source_its_classes_come_back_by_value():
    first = cell()
    again = CODEC.decode(stored(first["Job"](2), namespace=first))
    assert type(again).__name__ == "Job"
    assert again.double() == 4


def test_a_class_that_uses_what_cannot_be_stored_is_known_by_name():
    first = {"__name__": "__main__", "lock": threading.Lock()}
    source = "class Uses:\n    def __init__(self): self.v = 1\n    def run(self): return lock"
    exec(source, first)
    data = stored(first["Uses"](), namespace=first)
    assert isinstance(CODEC.decode(data, namespace=first), first["Uses"])
    with pytest.raises(UndecodableValueError, match="Uses"):
        CODEC.decode(data)


def test_code_of_another_python_version_is_not_loaded(monkeypatch):
    monkeypatch.setattr("durable.values.BYTECODE", "00000000")
    data = stored([lambda: 1, cell()["Job"](1)])
    monkeypatch.undo()
    with pytest.raises(UndecodableValueError, match="Python version"):
        CODEC.decode(data)


def test_another_python_version_reads_what_needs_no_code(monkeypatch):
    first, second = cell(), cell()
    monkeypatch.setattr("durable.values.BYTECODE", "00000000")
    data = stored([first["Job"](1), Reduced(2)], namespace=first)
    monkeypatch.undo()
    again = CODEC.decode(data, namespace=second)
    assert isinstance(again[0], second["Job"])
    assert again[1] == Reduced(2)


def test_functions_without_a_name_come_back_with_what_they_close_over():
    bound = 5
    assert through(lambda n: n + bound)(1) == 6


# --- signatures -------------------------------------------------------------------------


class Trap:
    """Leaves a mark if it is ever unpickled."""

    sprung: typing.ClassVar[list] = []

    def __reduce__(self):
        return Trap.sprung.append, (1,)


def test_a_changed_byte_anywhere_in_a_signed_value_is_refused_and_nothing_runs():
    Trap.sprung.clear()
    text = msgspec.json.encode(CODEC.encode([Trap(), Point(1)], where="x"))
    refused = 0
    for place in range(len(text)):
        for changed in {text[place] ^ 1, text[place] ^ 32}:
            try:
                data = msgspec.json.decode(text[:place] + bytes([changed]) + text[place + 1 :])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            try:
                CODEC.decode(data)
            except ForeignPayloadError:
                refused += 1
            else:  # the tag's own key changed: plain JSON now, read as such
                assert "__sostenuto__" not in data
    assert refused > len(text) / 2
    assert Trap.sprung == []


def test_another_installations_value_is_refused_and_nothing_runs():
    Trap.sprung.clear()
    data = stored(Trap())
    with pytest.raises(ForeignPayloadError, match="SOSTENUTO_SIGNING_KEY"):
        ValueCodec(SigningKey.generate).decode(data)
    with pytest.raises(ForeignPayloadError):
        CODEC.decode({**data, "signature": "0" * 64})
    with pytest.raises(ForeignPayloadError):
        CODEC.decode({k: v for k, v in data.items() if k != "signature"})
    assert Trap.sprung == []


def test_a_value_signed_for_one_purpose_is_not_taken_for_another():
    data = CODEC.encode(Point(1), where="x", kind="failure")
    with pytest.raises(ForeignPayloadError):
        CODEC.decode(data)


@pytest.mark.parametrize(
    "node",
    [
        {"__sostenuto__": "class", "name": "antigravity:x"},
        {"__sostenuto__": "function", "name": "os:system"},
        {"__sostenuto__": "object", "class": "antigravity:X", "attributes": {}},
        {"__sostenuto__": "enum", "class": "antigravity:X", "name": "A"},
        {"__sostenuto__": "pickled", "part": 0},
        {"__sostenuto__": "builtin", "name": "eval"},
        {"__sostenuto__": "zone", "zone": "../../etc/passwd"},
        {"__sostenuto__": "unknown"},
        {"__sostenuto__": ["unhashable"]},
        {"__sostenuto__": "tuple"},
        {"__sostenuto__": "same", "as": 99},
        {"__sostenuto__": "same", "as": 0},
        {"__sostenuto__": "same", "as": -1},
        {"__sostenuto__": "tuple", "items": [{"__sostenuto__": "same", "as": 1}]},
        {"__sostenuto__": "datetime", "value": 5},
        {"__sostenuto__": "set", "items": [[1]]},
        {"__sostenuto__": "sealed", "value": 1, "signature": None},
    ],
    ids=lambda n: str(n["__sostenuto__"]),
)
def test_unsigned_forms_that_name_classes_and_malformed_ones_are_refused(node):
    for data in (node, {"deep": [node]}):
        with pytest.raises(ForeignPayloadError):
            CODEC.decode(data)
    assert "antigravity" not in sys.modules


def test_a_bare_pickle_in_the_sdks_way_is_data_and_not_loaded():
    Trap.sprung.clear()
    pickled = base64.b64encode(pickle.dumps(Trap())).decode()
    Trap.sprung.clear()
    data = {"__py_pickle": pickled, "message": "m"}
    assert CODEC.decode(data) == data
    assert Trap.sprung == []


# --- across processes -------------------------------------------------------------------


def run_python(program, *arguments, seed="0"):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DIGEST_PROGRAM = """
    import dataclasses, enum, datetime, functools, threading, collections
    from durable.values import ValueCodec
    @dataclasses.dataclass
    class P:
        x: object
    class E(enum.Enum):
        A = 1
    class Odd:
        def method(self): ...
    names = {f"n{i}" for i in range(20)}
    args = (
        1, "a", names, frozenset(names), dict.fromkeys(names), {"b": 1, "a": [2.5, None, True]},
        P(names), E.A, Odd(), Odd().method, lambda: 1, len, P, threading.Lock(), object(),
        functools.partial(len, "x"), datetime.date(2026, 1, 2), {(1, 2): {3}}, b"x" * 100,
        collections.OrderedDict(a=1), (n for n in ()), "\\ud800", float("nan"), 10**5000,
    )
    print(ValueCodec(lambda: None).digest(args, {"k": names, "j": 1}))
"""


def test_digests_are_equal_across_processes_and_hash_seeds():
    digests = {run_python(DIGEST_PROGRAM, seed=seed) for seed in ("0", "1", "2", "random")}
    assert len(digests) == 1
    assert re.fullmatch("[0-9a-f]{32}", digests.pop())


def test_a_by_value_class_and_a_set_are_read_by_another_process_with_the_same_key(tmp_path):
    write = """
        import sys, msgspec, pathlib, os
        from durable.signing import SigningKey
        from durable.values import ValueCodec
        class Job:
            def __init__(self, n): self.n = n
            def double(self): return 2 * self.n
        codec = ValueCodec(lambda: SigningKey.load(pathlib.Path(sys.argv[1]), env={}))
        print(msgspec.json.encode(codec.encode([Job(4), {"a", "b"}], where="x")).decode())
    """
    read = """
        import sys, msgspec, pathlib
        from durable.signing import SigningKey
        from durable.values import ValueCodec
        codec = ValueCodec(lambda: SigningKey.load(pathlib.Path(sys.argv[1]), env={}))
        job, names = codec.decode(msgspec.json.decode(sys.argv[2]))
        print(type(job).__name__, job.double(), sorted(names))
    """
    database = str(tmp_path / "runs.db")
    text = run_python(write, database, seed="1")
    assert run_python(read, database, text, seed="2") == "Job 8 ['a', 'b']"


def digest(*args, **kwargs):
    return CODEC.digest(args, kwargs)


def test_digests_tell_different_arguments_apart():
    calls = [
        digest(), digest(1), digest(1.0), digest(True), digest("1"), digest(b"1"), digest([1]),
        digest((1,)), digest({1}), digest({1: 2}), digest(1, 2), digest((1, 2)), digest(a=1),
        digest(b=1), digest("a", 1), digest(0.0), digest(-0.0), digest(None), digest("None"),
        digest(["a", "b"]), digest(["ab"]), digest([["a"], "b"]), digest([["a", "b"]]),
        digest(Point(1)), digest(Point(2)), digest(Colour.RED), digest(Colour.TUPLE),
        digest(Pair(1)), digest(Packet(kind="a")), digest(Packet(kind="b")), digest(len),
        digest(2**70), digest(2**70 + 1), digest(dt.date(2026, 1, 1)), digest(dt.date(2026, 1, 2)),
    ]  # fmt: skip
    assert len(set(calls)) == len(calls)


def test_digests_do_not_depend_on_order_identity_or_sharing():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(a=1, b=2) == digest(b=2, a=1)
    row = [1]
    assert digest([row, row]) == digest([[1], [1]])
    assert digest(Ordinary(1)) == digest(Ordinary(2))
    assert digest(threading.Lock()) == digest(threading.Lock())


def test_digests_of_hostile_circular_deep_and_doubled_arguments_end():
    circle = []
    circle.append(circle)
    deep = doubled = [1]
    for _ in range(10_000):
        deep = [deep]
    for _ in range(60):
        doubled = (doubled, doubled)
    hostile = object.__new__(HostileMeta("HostileClass", (), {}))
    for value in (circle, deep, doubled, HostileAll(), Liar(), hostile):
        assert digest(value) == digest(value)


def test_encoding_takes_linear_time():
    def seconds(size):
        value = [{"n": n, "t": (n, n)} for n in range(size)]
        best = math.inf
        for _ in range(3):
            started = time.perf_counter()
            CODEC.decode(CODEC.encode(value, where="x"))
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(20_000) < 40 * seconds(2_000)  # 10 if linear, 100 if quadratic
