"""Exceptions between Python and the JSON of the store, as text that people can read.

A recorded failure is a dict: ``message`` (the key the SDK reads), type, notes and
traceback in plain text for every reader and engine, and under ``rebuild`` what
gives this installation the exception back with its own type. Builtin exceptions
with plain arguments need no signature; every other class is signed like a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from durable.errors import RemoteError
from durable.tracebacks import traceback_text
from durable.value_classes import is_class, type_name
from durable.value_exceptions import (
    exception_parts,
    has_own_reduction,
    rebuild_exception,
    restore_attributes,
)
from durable.values import ValueCodec, is_signed

__all__ = ["decode_failure", "encode_failure", "failure_notes", "notes_of"]

_KIND = "failure"
_MAX_MESSAGE_SIZE = 64 * 1024
_MAX_NOTE_SIZE = 16 * 1024
_MAX_NOTES = 100
# A chain of causes is read by people; a retry loop can make it hundreds long.
_MAX_CHAIN = 20
# Text for the tracebacks of one failure, all causes and members of groups together.
_TRACEBACK_BUDGET = 64 * 1024
_MAX_TRACEBACK_SIZE = 16 * 1024


def encode_failure(
    exc: BaseException, codec: ValueCodec, *, namespace: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the readable JSON form of ``exc``; never raises.

    Args:
        exc: Any exception.
        codec: Encodes its arguments and attributes; what it refuses is left out.
        namespace: Live names of the source, by which its classes are known.
    """
    try:
        return _Encoder(codec, namespace).encode(exc, 0)
    except Exception:  # noqa: BLE001 - an exception class may override anything at all
        return {"__type": "error", "message": message_of(exc), "type": _type_of(exc)}


def decode_failure(
    data: Any, codec: ValueCodec, *, namespace: Mapping[str, Any] | None = None
) -> BaseException:
    """Return the exception that :func:`encode_failure` made ``data`` of; never raises.

    Where its type cannot be had (foreign data, another installation's signature, a
    class that is gone), a :class:`~durable.errors.RemoteError` with its type's name,
    message and notes.
    """
    try:
        return _decode(data, codec, namespace, 0)
    except Exception:  # noqa: BLE001 - whatever a stranger may have put there
        return RemoteError(_rendered(data))


def failure_notes(data: Any) -> list[str]:
    """Return the notes of a recorded failure, reading text alone."""
    notes = data.get("notes") if isinstance(data, dict) else None
    if not isinstance(notes, list):
        return []
    return [note for note in notes if isinstance(note, str)]


class _Encoder:
    def __init__(self, codec: ValueCodec, namespace: Mapping[str, Any] | None) -> None:
        self._codec = codec
        self._namespace = namespace
        self._seen: set[int] = set()
        self._budget = _TRACEBACK_BUDGET

    def encode(self, exc: BaseException, depth: int) -> dict[str, Any]:
        self._seen.add(id(exc))
        data: dict[str, Any] = {
            "__type": "error",
            "message": message_of(exc),
            "type": _type_of(exc),
        }
        notes = notes_of(exc)
        if notes:
            data["notes"] = notes
        trace = traceback_text(exc, min(self._budget, _MAX_TRACEBACK_SIZE))
        if trace:
            self._budget -= len(trace)
            data["traceback"] = trace
        if isinstance(exc, BaseExceptionGroup) and depth < _MAX_CHAIN:
            data["group"] = [self.encode(member, depth + 1) for member in exc.exceptions]
        self._encode_links(exc, data, depth)
        rebuild = self._rebuild(exc)
        if rebuild is not None:
            data["rebuild"] = rebuild
        return data

    def _encode_links(self, exc: BaseException, data: dict[str, Any], depth: int) -> None:
        for key, linked in (("cause", exc.__cause__), ("context", exc.__context__)):
            if key == "context" and linked is exc.__cause__:
                continue
            if linked is not None and id(linked) not in self._seen and depth < _MAX_CHAIN:
                data[key] = self.encode(linked, depth + 1)
        if exc.__suppress_context__:
            data["suppress_context"] = True

    def _rebuild(self, exc: BaseException) -> Any:
        cls = type(exc)
        try:
            if has_own_reduction(cls):
                whole = self._encoded({"exception": exc})
                if whole is not None:
                    return whole
            args, attributes = exception_parts(exc)
            content = {"class": cls, "args": list(args), "attributes": attributes}
            # Foreign data must not be able to stop the host: KeyboardInterrupt, SystemExit
            # and their like are rebuilt from signed records alone.
            sealed = not issubclass(cls, Exception)
            return self._encoded(content, sealed=sealed) or self._thinned(content, sealed=sealed)
        except Exception:  # noqa: BLE001 - hostile classes; the readable text remains
            return None

    def _encoded(self, content: dict[str, Any], *, sealed: bool = False) -> Any:
        try:
            return self._codec.encode(
                content, where="an exception", namespace=self._namespace, kind=_KIND, sealed=sealed
            )
        except Exception:  # noqa: BLE001 - no key, no room, no way: the text remains
            return None

    def _thinned(self, content: dict[str, Any], *, sealed: bool) -> Any:
        """Encode what can be: other arguments become text, other attributes are left out."""
        args = [a if self._encodes(a) else _text_of(a) for a in content["args"]]
        attributes = {k: v for k, v in content["attributes"].items() if self._encodes(v)}
        thinned = {"class": content["class"], "args": args, "attributes": attributes}
        return self._encoded(thinned, sealed=sealed)

    def _encodes(self, value: Any) -> bool:
        return value is None or self._encoded({"value": value}) is not None


def _decode(
    data: Any, codec: ValueCodec, namespace: Mapping[str, Any] | None, depth: int
) -> BaseException:
    if not isinstance(data, dict) or not isinstance(data.get("message"), str):
        return RemoteError(_rendered(data))
    if depth > 2 * _MAX_CHAIN:
        return _remote(data)
    members = [_decode(member, codec, namespace, depth + 1) for member in _list(data.get("group"))]
    exc = _rebuilt(data, codec, namespace, members)
    if exc is None:
        exc = _remote(data)
        if members:
            exc.__cause__ = _group(data["message"], members)
    _set_notes(exc, failure_notes(data))
    for key in ("cause", "context"):
        if isinstance(data.get(key), dict):
            linked = _decode(data[key], codec, namespace, depth + 1)
            setattr(exc, f"__{key}__", linked)
    if "cause" in data and "context" not in data:
        exc.__context__ = exc.__cause__
    exc.__suppress_context__ = data.get("suppress_context") is True
    return exc


def _rebuilt(
    data: dict[str, Any],
    codec: ValueCodec,
    namespace: Mapping[str, Any] | None,
    members: list[BaseException],
) -> BaseException | None:
    rebuild = data.get("rebuild")
    if not isinstance(rebuild, dict):
        return None
    try:
        content = codec.decode(rebuild, namespace=namespace, kind=_KIND)
        trusted = is_signed(rebuild)  # decode has checked whose signature it is
        if trusted and "exception" in content:
            found = content["exception"]
            return found if isinstance(found, BaseException) else None
        cls = content["class"]
        if not is_class(cls) or not issubclass(cls, BaseException if trusted else Exception):
            return None
        exc = rebuild_exception(cls, tuple(content["args"]), members)
        restore_attributes(exc, content["attributes"])
    except Exception:  # noqa: BLE001 - foreign, tampered, or its class is gone
        return None
    return exc


def _remote(data: dict[str, Any]) -> RemoteError:
    name = data.get("type")
    return RemoteError(data["message"], type_name=name if isinstance(name, str) else "")


def _group(message: str, members: list[BaseException]) -> BaseException:
    return BaseExceptionGroup(message, members)


def _set_notes(exc: BaseException, notes: list[str]) -> None:
    if isinstance(exc, RemoteError):
        exc.notes = list(notes)
    if notes:
        BaseException.__setattr__(exc, "__notes__", list(notes))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def message_of(exc: BaseException) -> str:
    """Return ``str(exc)`` as storable text, also where ``__str__`` raises; never raises."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - __str__ is the user's
        text = f"<the text of this {type_name(type(exc))} cannot be had: its __str__ raises>"
    return _bounded(text, _MAX_MESSAGE_SIZE)


def _type_of(exc: BaseException) -> str:
    name = type_name(type(exc))
    return _bounded(name if "." in name else f"builtins.{name}", 1000)


def notes_of(exc: BaseException) -> list[str]:
    """Return the notes of a live exception as storable text; never raises."""
    try:
        notes = getattr(exc, "__notes__", None)
        if not isinstance(notes, list | tuple):
            return []
        return [_bounded(_text_of(note), _MAX_NOTE_SIZE) for note in notes[:_MAX_NOTES]]
    except Exception:  # noqa: BLE001 - __notes__ is the user's to set
        return []


def _text_of(value: Any) -> str:
    if type(value) is str:
        return value
    try:
        return _bounded(repr(value), 1000)
    except Exception:  # noqa: BLE001 - __repr__ is the user's
        return f"<{type_name(type(value))}>"


def _bounded(text: str, size: int) -> str:
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(clean) <= size:
        return clean
    return f"{clean[:size]}... ({len(clean) - size} more characters)"


def _rendered(data: Any) -> str:
    try:
        shown = msgspec.json.encode(data).decode("utf-8")
    except Exception:  # noqa: BLE001 - not even JSON
        shown = f"<{type_name(type(data))}>"
    return f"rejected with {_bounded(shown, _MAX_MESSAGE_SIZE)}"
