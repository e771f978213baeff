"""Values between Python and the JSON of the store: readable, typed, signed where it matters.

What JSON carries exactly is stored as that JSON. Other values have a readable form
under the key ``"__sostenuto__"`` and come back with their type. What names a class or
carries a pickle is signed by the installation, and rebuilt only if it is: see
docs/values.md for every form.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import msgspec

from durable.errors import (
    DurableError,
    ForeignPayloadError,
    UndecodableValueError,
    UnserializableValueError,
)
from durable.signing import SigningKey
from durable.value_classes import find_live, import_definition, type_name
from durable.value_digest import digest_of
from durable.value_exceptions import reduce_exception
from durable.value_paths import path_text, path_within
from durable.value_pickles import BYTECODE, GraphPickler, GraphUnpickler, dump_definition
from durable.value_reader import ValueReader
from durable.value_scalars import MAX_INT_BITS, TAG, is_json_text
from durable.value_writer import ValueWriter, WholePickleNeededError

__all__ = ["ValueCodec", "is_signed", "same_json"]

# Plain JSON is checked and passed on without recursion, but the JSON encoder recurses:
# msgspec on CPython 3.12 stops between 900 and 2,000 levels (measured).
_MAX_PLAIN_DEPTH = 300


class ValueCodec:
    """Encodes and decodes results, arguments and step values.

    Args:
        key: Gives the installation's signing key; called when a value first needs a
            signature, so that plain values need no key file.
    """

    def __init__(self, key: Callable[[], SigningKey]) -> None:
        self._load_key = key
        self._key: SigningKey | None = None

    def encode(
        self,
        value: Any,
        *,
        where: str,
        namespace: Mapping[str, Any] | None = None,
        kind: str = "value",
        sealed: bool = False,
    ) -> Any:
        """Return JSON builtins that :meth:`decode` turns back into an equal value.

        Plain JSON is returned as it is, not copied.

        Args:
            value: Anything.
            where: What returned the value, for the error: ``"step 'fetch'"``.
            namespace: Live names of the source, by which its classes are known.
            kind: What the value is for; a signed value is only decoded as its kind.
            sealed: Sign the value even if it needs no signature.

        Raises:
            UnserializableValueError: Nothing can store the value; names its type and place.
            SigningKeyError: The value needs a signature and the key cannot be had.
        """
        try:
            if not sealed and _is_plain(value):
                return value
            return self._encode_typed(value, where, namespace, kind, sealed=sealed)
        except DurableError:
            raise
        except Exception as exc:
            raise _unserializable(type(value), type(value), [], where, exc) from exc

    def decode(
        self, data: Any, *, namespace: Mapping[str, Any] | None = None, kind: str = "value"
    ) -> Any:
        """Return the value that :meth:`encode` made ``data`` of.

        Args:
            data: JSON builtins.
            namespace: Live names of the source; its classes are taken from here.
            kind: What the value was encoded for.

        Raises:
            ForeignPayloadError: The data names a class or has a pickle, and is not signed
                by this installation as this kind, or was changed; nothing of it has run.
            UndecodableValueError: A class, module or Python version it needs is gone.
            SigningKeyError: The key cannot be had.
        """
        try:
            if not _has_tag(data):
                return data
            if is_signed(data):
                return self._decode_sealed(data, namespace, kind)
            return ValueReader().read(data)
        except RecursionError as exc:
            raise ForeignPayloadError("a stored value is nested too deeply to read") from exc

    def digest(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return 32 hex digits that are equal for equal arguments, in every process.

        Never raises: what has no value of its own (a lock, a connection, an object of
        an ordinary class) counts by the name of its type.
        """
        return digest_of(args, kwargs)

    def _signing_key(self) -> SigningKey:
        if self._key is None:
            self._key = self._load_key()
        return self._key

    def _encode_typed(
        self,
        value: Any,
        where: str,
        namespace: Mapping[str, Any] | None,
        kind: str,
        *,
        sealed: bool,
    ) -> Any:
        writer = ValueWriter(namespace)
        try:
            tree = writer.write(value)
            pickled, has_code = _pickle_parts(writer, type(value), where)
        except (WholePickleNeededError, RecursionError):
            writer = ValueWriter(namespace)
            tree = writer.write_part(value)
            pickled, has_code = _pickle_parts(writer, type(value), where, alone=True)
        except DurableError:
            raise
        except Exception as exc:
            culprit = writer.culprit
            raise _unserializable(type(culprit), type(value), writer.path, where, exc) from exc
        if not (sealed or writer.names_classes or pickled):
            return tree
        return self._seal(tree, writer, pickled, kind, type(value), where, has_code=has_code)

    def _seal(
        self,
        tree: Any,
        writer: ValueWriter,
        pickled: bytes,
        kind: str,
        root: type,
        where: str,
        *,
        has_code: bool,
    ) -> dict[str, Any]:
        definitions = _dump_definitions(writer, root, where)
        node: dict[str, Any] = {TAG: "sealed", "value": tree}
        if definitions:
            node["definitions"] = definitions
        if pickled:
            node["pickle"] = base64.b64encode(pickled).decode("ascii")
            node["pickle_has_code"] = has_code
        if has_code or definitions:
            node["bytecode"] = BYTECODE
        node["signature"] = self._signing_key().sign(_signed_bytes(node, kind))
        return node

    def _decode_sealed(
        self, node: dict[str, Any], namespace: Mapping[str, Any] | None, kind: str
    ) -> Any:
        if not self._is_authentic(node, kind):
            raise ForeignPayloadError(
                f"a stored {kind} was not signed with this installation's key, or was changed "
                f"since; nothing of it was loaded. If it comes from another host, give both the "
                f"same key (SOSTENUTO_SIGNING_KEY, or a copy of the key file)"
            )
        resolver = _Resolver(node, namespace)
        return ValueReader(resolver.resolve, resolver.load_parts).read(node["value"])

    def _is_authentic(self, node: dict[str, Any], kind: str) -> bool:
        try:
            payload = _signed_bytes(node, kind)
        except Exception:  # noqa: BLE001 - what cannot be JSON was not signed by us
            return False
        return self._signing_key().verify(payload, node.get("signature"))


def is_signed(data: Any) -> bool:
    """Tell whether ``data`` has a signature; whose is for :meth:`ValueCodec.decode` to say."""
    return type(data) is dict and data.get(TAG) == "sealed" and "value" in data


def _signed_bytes(node: dict[str, Any], kind: str) -> bytes:
    content = {k: v for k, v in node.items() if k != "signature"}
    # Deterministic order: engines may keep JSON objects in an order of their own.
    return b"sostenuto-sealed-1\0" + msgspec.json.encode([kind, content], order="deterministic")


def _is_plain(value: Any) -> bool:
    """Tell whether JSON carries ``value`` exactly: its types, its sharing, no tag of ours."""
    cls = type(value)
    if cls is not list and cls is not dict:
        return _is_plain_scalar(value, cls)
    seen = {id(value)}
    level = [value]
    for _ in range(_MAX_PLAIN_DEPTH):
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                for key in node:
                    if type(key) is not str or not (key.isascii() or is_json_text(key)):
                        return False
                if TAG in node:
                    return False
                items: Any = node.values()
            else:
                items = node
            for item in items:
                cls = type(item)
                if cls is list or cls is dict:
                    if id(item) in seen:
                        return False
                    seen.add(id(item))
                    below.append(item)
                elif not _is_plain_scalar(item, cls):
                    return False
        if not below:
            return True
        level = below
    return False


def _is_plain_scalar(value: Any, cls: type) -> bool:
    if cls is str:
        return value.isascii() or is_json_text(value)
    if cls is int:
        return value.bit_length() <= MAX_INT_BITS  # type: ignore[no-any-return]
    if cls is float:
        return math.isfinite(value)
    return value is None or cls is bool


def _has_tag(data: Any) -> bool:
    """Tell whether a form of ours is anywhere in ``data``, without recursion."""
    stack = [data]
    while stack:
        node = stack.pop()
        if type(node) is dict:
            if TAG in node:
                return True
            stack.extend(v for v in node.values() if type(v) is dict or type(v) is list)
        elif type(node) is list:
            stack.extend(v for v in node if type(v) is dict or type(v) is list)
    return False


def _pickle_parts(
    writer: ValueWriter, root: type, where: str, *, alone: bool = False
) -> tuple[bytes, bool]:
    """Return the common pickle of a writer's parts and whether it has code in it."""
    if not writer.parts:
        return b"", False
    file = io.BytesIO()
    pickler = GraphPickler(file, writer.definitions, reduce_exception)
    try:
        pickler.dump(writer.parts)
    except Exception as exc:
        raise _blame(writer, pickler.current, root, where, exc) from exc
    if not alone and writer.shares(pickler.visited):
        raise WholePickleNeededError
    return file.getvalue(), pickler.has_bytecode


def _blame(
    writer: ValueWriter, culprit: Any, root: type, where: str, exc: Exception
) -> UnserializableValueError:
    """Return the error for a pickle that failed at ``culprit``, with its place if found."""
    for part, path in zip(writer.parts, writer.part_paths, strict=True):
        inner = path_within(part, culprit)
        if inner is not None:
            return _unserializable(type(culprit), root, [*path, *inner], where, exc)
    path = writer.part_paths[0] if len(writer.parts) == 1 else ()
    return _unserializable(type(culprit), root, list(path), where, exc)


def _unserializable(
    cls: type, root: type, path: list[tuple[str, Any]], where: str, exc: BaseException
) -> UnserializableValueError:
    place = path_text(path)
    name = type_name(cls)
    inside = f", inside a {type_name(root)!r}" if root is not cls else ""
    try:
        reason = f"{type(exc).__name__}: {exc}"[:300]
    except Exception:  # noqa: BLE001 - a hostile error's text
        reason = type(exc).__name__
    return UnserializableValueError(
        f"nothing can store a value of type {name!r}: it is {place}{inside}, "
        f"from {where} ({reason}). Return plain data, a dataclass or anything that pickles; "
        f"keep live things (locks, connections, files, tasks, generators) out of results "
        f"and get them by ctx.get_dependency",
        type_name=name,
        path=place,
        where=where,
    )


def _dump_definitions(writer: ValueWriter, root: type, where: str) -> dict[str, Any]:
    dumped: dict[str, Any] = {}
    known = writer.definitions
    while len(dumped) < len(known.by_label):  # a definition may name its bases
        for label, definition in list(known.by_label.items())[len(dumped) :]:
            code = dump_definition(definition, known)
            live = label not in known.by_value_only
            if code is None and not live:
                raise _unserializable(
                    definition, root, [], where, TypeError("its class cannot be stored by value")
                )
            dumped[label] = {
                "live": live,
                **({} if code is None else {"code": base64.b64encode(code).decode("ascii")}),
            }
    return dumped


class _Resolver:
    """Definitions and parts of one record whose signature has been checked."""

    def __init__(self, node: dict[str, Any], namespace: Mapping[str, Any] | None) -> None:
        self._node = node
        self._namespace = namespace
        self._definitions: dict[str, Any] = node.get("definitions", {})
        self._found: dict[str, Any] = {}

    def resolve(self, label: str) -> Any:
        """Return the live definition of ``label``, else the stored one, else the imported."""
        if label not in self._found:
            self._found[label] = self._find(label)
        return self._found[label]

    def load_parts(self) -> list[Any]:
        """Unpickle the parts."""
        has_code = self._node["pickle_has_code"]
        return list(self._unpickle(self._node["pickle"], "a value", has_code=has_code))

    def _find(self, label: str) -> Any:
        module, _, name = label.partition(":")
        entry = self._definitions.get(label)
        if entry is None:
            return import_definition(module, name)
        if entry["live"]:
            live = find_live(module, name, self._namespace, (type, FunctionType))
            if live is not None:
                return live
        if "code" not in entry:
            raise UndecodableValueError(
                f"a stored value needs {name!r}, which its source defines and which could not be "
                f"stored with it; read the value where that source has run"
            )
        return self._unpickle(entry["code"], repr(name), has_code=True, packed=True)

    def _unpickle(self, text: str, what: str, *, has_code: bool, packed: bool = False) -> Any:
        if has_code and self._node.get("bytecode") != BYTECODE:
            raise UndecodableValueError(
                f"{what} was stored with code of another Python version; read it with the version "
                f"that wrote it, or where the source that defines it has run"
            )
        try:
            data = base64.b64decode(text)
            return GraphUnpickler(zlib.decompress(data) if packed else data, self.resolve).load()
        except DurableError:
            raise
        except Exception as exc:
            raise UndecodableValueError(
                f"{what} cannot be unpickled here ({type(exc).__name__}: {exc}); it needs the "
                f"packages and classes it was stored with"
            ) from exc


def same_json(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same text; to Python, 1 equals True and 1.0."""
    return one == other and msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(
        other, order="deterministic"
    )
