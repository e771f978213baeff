"""From a URL to the engine that keeps the promises."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import platformdirs

from durable.errors import ConfigurationError, MissingExtraError

__all__ = ["EngineUrl", "default_database", "parse_url"]

_SCHEMES = "sqlite:///FILE, memory:, postgresql://..., nats://..., http://... or https://..."

_PASSWORD = re.compile(r"(://[^/@:]*):[^/@]*@")


class EngineUrl(msgspec.Struct, frozen=True):
    """A parsed engine URL.

    Attributes:
        kind: ``sqlite``, ``memory``, ``postgresql``, ``nats`` or ``http``.
        url: As given.
        path: The database file, for ``sqlite``.
    """

    kind: str
    url: str
    path: Path | None = None

    @property
    def shown(self) -> str:
        """The URL for messages and logs, without its password."""
        return hide_password(self.url)


def hide_password(url: str) -> str:
    """Return a URL with ``***`` in the place of its password."""
    return _PASSWORD.sub(r"\1:***@", url)


def default_database(env: Mapping[str, str] | None = None) -> Path:
    """Return the per-user database file.

    ``$SOSTENUTO_DB`` where it is set, else ``runs.db`` in the platform's user data
    directory (``~/.local/share/sostenuto`` on Linux, ``~/Library/Application
    Support/sostenuto`` on macOS).
    """
    environ = os.environ if env is None else env
    named = environ.get("SOSTENUTO_DB")
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_data_dir("sostenuto", appauthor=False)) / "runs.db"


def parse_url(url: str | os.PathLike[str]) -> EngineUrl:
    """Read an engine URL, or a path as the SQLite file that it names.

    Raises:
        ConfigurationError: Empty, of an unknown scheme, or a SQLite URL without a file.
    """
    if isinstance(url, os.PathLike):
        return EngineUrl("sqlite", os.fspath(url), Path(url))
    if not isinstance(url, str) or not url.strip():
        msg = f"url={url!r} names no engine: pass {_SCHEMES}"
        raise ConfigurationError(msg)
    scheme, colon, rest = url.partition(":")
    # One letter before the colon is a Windows drive, not a scheme.
    if not colon or len(scheme) == 1 or "/" in scheme or "\\" in scheme:
        return EngineUrl("sqlite", url, Path(url).expanduser())
    match scheme.lower():
        case "memory":
            return EngineUrl("memory", url)
        case "sqlite":
            return EngineUrl("sqlite", url, _sqlite_path(url, rest))
        case "postgresql" | "postgres":
            return EngineUrl("postgresql", url)
        case "nats" | "tls":
            return EngineUrl("nats", url)
        case "http" | "https":
            _check_address(url)
            return EngineUrl("http", url)
    msg = f"url={hide_password(url)!r} has the unknown scheme {scheme!r}: pass {_SCHEMES}"
    raise ConfigurationError(msg)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or an IPv6 address without its end
        named = False
    if not named:
        msg = f"url={hide_password(url)!r} names no server: pass http://HOST:PORT"
        raise ConfigurationError(msg)


def _sqlite_path(url: str, rest: str) -> Path:
    if rest.startswith("///"):
        name = unquote(rest[3:])
    elif rest.startswith("//"):
        msg = f"url={url!r} has a host where a file belongs: sqlite:///relative.db or sqlite:////absolute.db"
        raise ConfigurationError(msg)
    else:
        name = unquote(rest)
    if not name or name == ":memory:":
        msg = f"url={url!r} names no file: sqlite:///FILE keeps promises, memory: forgets them"
        raise ConfigurationError(msg)
    return Path(name).expanduser()


def load_connector(module: str, attribute: str, extra: str, url: str) -> Any:
    """Import a connector of an optional package.

    Raises:
        MissingExtraError: Not installed; the message has the pip command.
    """
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        msg = f"{hide_password(url)!r} needs {module}: pip install 'sostenuto[{extra}]' ({error})"
        raise MissingExtraError(msg) from error
