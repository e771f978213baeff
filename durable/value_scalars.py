"""Readable JSON forms of single values that JSON itself does not carry exactly.

Each form is a dict with the tag key, pure data, and rebuilt by standard-library
constructors alone: reading one never imports a module or runs foreign code, so it
needs no signature. The forms are listed in docs/values.md.
"""

from __future__ import annotations

import base64
import builtins
import ipaddress
import math
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

__all__ = ["MAX_INT_BITS", "SCALAR_READERS", "SCALAR_WRITERS", "TAG", "is_json_text"]

TAG = "__sostenuto__"

# 4,300 decimal digits is where CPython refuses to print or parse an int (its
# sys.int_info.default_max_str_digits); 14,000 bits is safely below.
MAX_INT_BITS = 14_000

type Node = dict[str, Any]

_PATH_KINDS: dict[str, type[pathlib.PurePath]] = {
    "Path": pathlib.Path,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}
_ADDRESS_KINDS: dict[str, Callable[[str], Any]] = {
    kind.__name__: kind
    for kind in (
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
        ipaddress.IPv4Interface,
        ipaddress.IPv6Interface,
        ipaddress.IPv4Network,
        ipaddress.IPv6Network,
    )
}


def is_json_text(text: str) -> bool:
    """Tell whether JSON carries ``text``: it has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _write_text(value: str) -> Any:
    if is_json_text(value):
        return value
    return {TAG: "str", "escaped": value.encode("unicode_escape").decode("ascii")}


def _read_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _read_escaped(value)


def _read_escaped(node: Node) -> str:
    return str(node["escaped"].encode("ascii").decode("unicode_escape"))


def _write_int(value: int) -> Any:
    if value.bit_length() <= MAX_INT_BITS:
        return value
    return {TAG: "int", "hex": hex(value)}


def _read_int(value: Any) -> int:
    if type(value) is int:
        return value
    return int(value["hex"], 16)


def _write_float(value: float) -> Any:
    if math.isfinite(value):
        return value
    return {TAG: "float", "value": repr(value)}


def _read_float(value: Any) -> float:
    return float(value["value"]) if isinstance(value, dict) else float(value)


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), validate=True)


def _zone_of(value: datetime | time) -> Node | None:
    """Return how the value's zone is written, ``None`` if no form is faithful."""
    zone = value.tzinfo
    if zone is None:
        return {}
    if type(zone) is timezone:
        return {"zone": _write_offset(zone)}
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return {"zone": zone.key}
    return None


def _write_moment(tag: str, value: datetime | time) -> Node | None:
    zone = _zone_of(value)
    if zone is None:
        return None
    fold = {"fold": 1} if value.fold else {}
    return {TAG: tag, "value": value.replace(tzinfo=None).isoformat(), **zone, **fold}


def _read_zone(node: Node) -> Any:
    zone = node.get("zone")
    if zone is None:
        return None
    return zoneinfo.ZoneInfo(zone) if isinstance(zone, str) else _read_offset(zone)


def _write_offset(zone: timezone) -> Node:
    offset = zone.utcoffset(None)
    named = zone.tzname(None)
    node: Node = {"offset": str(timezone(offset)).removeprefix("UTC") or "+00:00"}
    return node if named == str(timezone(offset)) else {**node, "name": _write_text(named)}


def _read_offset(node: Node) -> timezone:
    # CPython's own reading of an offset below a second gives UTC.
    sign, size = node["offset"][:1], time.fromisoformat(node["offset"][1:])
    if sign not in {"+", "-"}:
        raise ValueError(f"an offset begins with + or -, not as {node['offset']!r}")
    offset = timedelta(
        hours=size.hour, minutes=size.minute, seconds=size.second, microseconds=size.microsecond
    )
    offset = -offset if sign == "-" else offset
    return timezone(offset, _read_text(node["name"])) if "name" in node else timezone(offset)


def _read_datetime(node: Node) -> datetime:
    value = datetime.fromisoformat(node["value"])
    return value.replace(tzinfo=_read_zone(node), fold=node.get("fold", 0))


def _read_time(node: Node) -> time:
    value = time.fromisoformat(node["value"])
    return value.replace(tzinfo=_read_zone(node), fold=node.get("fold", 0))


def _write_zone_info(value: zoneinfo.ZoneInfo) -> Node | None:
    return None if value.key is None else {TAG: "zone", "zone": value.key}


def _write_path(value: pathlib.PurePath) -> Node:
    kind = "Path" if isinstance(value, pathlib.Path) else type(value).__name__
    return {TAG: "path", "kind": kind, "value": _write_text(str(value))}


def _write_address(value: Any) -> Node:
    return {TAG: "ip", "kind": type(value).__name__, "value": str(value)}


def _write_pattern(value: re.Pattern[Any]) -> Node:
    pattern = value.pattern
    text = isinstance(pattern, str)
    written = _write_text(pattern) if text else {TAG: "bytes", "base64": _write_bytes(pattern)}
    return {TAG: "pattern", "pattern": written, "flags": value.flags}


def _read_pattern(node: Node) -> re.Pattern[Any]:
    pattern = node["pattern"]
    if isinstance(pattern, dict) and "base64" in pattern:
        return re.compile(_read_bytes(pattern["base64"]), node["flags"])
    return re.compile(_read_text(pattern), node["flags"])


def _write_builtin(value: object) -> Node:
    return {TAG: "constant", "name": repr(value)}


def _read_constant(node: Node) -> Any:
    return {"Ellipsis": ..., "NotImplemented": NotImplemented}[node["name"]]


def _read_builtin_class(node: Node) -> type:
    found = getattr(builtins, node["name"])
    if not isinstance(found, type):
        raise TypeError(f"{node['name']} is not a class")
    return found


# Exact type -> writer. A writer returns None where no form is faithful.
SCALAR_WRITERS: dict[type, Callable[[Any], Any]] = {
    str: _write_text,
    int: _write_int,
    float: _write_float,
    complex: lambda v: {TAG: "complex", "real": _write_float(v.real), "imag": _write_float(v.imag)},
    bytes: lambda v: {TAG: "bytes", "base64": _write_bytes(v)},
    datetime: lambda v: _write_moment("datetime", v),
    time: lambda v: _write_moment("time", v),
    date: lambda v: {TAG: "date", "value": v.isoformat()},
    timedelta: lambda v: {
        TAG: "timedelta",
        "days": v.days,
        "seconds": v.seconds,
        "microseconds": v.microseconds,
    },
    timezone: lambda v: {TAG: "zone", "zone": _write_offset(v)},
    zoneinfo.ZoneInfo: _write_zone_info,
    Decimal: lambda v: {TAG: "decimal", "value": str(v)},
    Fraction: lambda v: {
        TAG: "fraction",
        "numerator": _write_int(v.numerator),
        "denominator": _write_int(v.denominator),
    },
    uuid.UUID: lambda v: {TAG: "uuid", "value": str(v)},
    range: lambda v: {TAG: "range", "bounds": [_write_int(i) for i in (v.start, v.stop, v.step)]},
    re.Pattern: _write_pattern,
    type(...): _write_builtin,
    type(NotImplemented): _write_builtin,
    type(pathlib.Path()): _write_path,
    pathlib.PurePosixPath: _write_path,
    pathlib.PureWindowsPath: _write_path,
    **{kind: _write_address for kind in _ADDRESS_KINDS.values() if isinstance(kind, type)},
}

# Tag -> reader. A reader raises any Exception on a malformed node.
SCALAR_READERS: dict[str, Callable[[Node], Any]] = {
    "str": _read_escaped,
    "int": _read_int,
    "float": _read_float,
    "complex": lambda n: complex(_read_float(n["real"]), _read_float(n["imag"])),
    "bytes": lambda n: _read_bytes(n["base64"]),
    "datetime": _read_datetime,
    "time": _read_time,
    "date": lambda n: date.fromisoformat(n["value"]),
    "timedelta": lambda n: timedelta(n["days"], n["seconds"], n["microseconds"]),
    "zone": _read_zone,
    "decimal": lambda n: Decimal(n["value"]),
    "fraction": lambda n: Fraction(_read_int(n["numerator"]), _read_int(n["denominator"])),
    "uuid": lambda n: uuid.UUID(n["value"]),
    "range": lambda n: range(*(_read_int(i) for i in n["bounds"])),
    "pattern": _read_pattern,
    "constant": _read_constant,
    "path": lambda n: _PATH_KINDS[n["kind"]](_read_text(n["value"])),
    "ip": lambda n: _ADDRESS_KINDS[n["kind"]](n["value"]),
    "builtin": _read_builtin_class,
}
