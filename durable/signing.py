"""The key that tells this installation's records from anyone else's.

A stored value that names a class or carries a pickle is rebuilt only if it bears
an HMAC-SHA256 (RFC 2104, FIPS 180-4) made with this key. The key is 256 random
bits in a 0600 file beside the database, or a secret given by the environment so
that several hosts can share one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from durable.errors import SigningKeyError

__all__ = ["KEY_VARIABLE", "SigningKey"]

KEY_VARIABLE = "SOSTENUTO_SIGNING_KEY"

# Below 128 bits of text a secret can be searched for offline from one signed record.
_MIN_SECRET_SIZE_BYTES = 16
_KEY_SIZE_BYTES = 32
_KEY_LINE = re.compile(rb"sostenuto-key-1 ([0-9a-f]{64})\n")
_MAX_KEY_FILE_SIZE_BYTES = 4096
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class SigningKey:
    """HMAC-SHA256 key of one installation.

    Args:
        secret: The key's bytes, at least 16.

    Raises:
        SigningKeyError: ``secret`` is too short.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _MIN_SECRET_SIZE_BYTES:
            raise SigningKeyError(
                f"a signing key needs at least {_MIN_SECRET_SIZE_BYTES} bytes, not {len(secret)}; "
                f"make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
            )
        self._secret = secret

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new random key that is kept nowhere (for a database in memory, for tests)."""
        return cls(secrets.token_bytes(_KEY_SIZE_BYTES))

    @classmethod
    def load(cls, database: Path | None, env: Mapping[str, str] = os.environ) -> SigningKey:
        """Return the installation's key, making it on first need.

        Args:
            database: The database file the key belongs to; the key is kept in
                ``<database>.key``. With ``None``, in the per-user data location.
            env: Where ``SOSTENUTO_SIGNING_KEY`` is looked up; it wins over any file.

        Raises:
            SigningKeyError: The secret is too short, or the key file is readable by
                others, empty, corrupt, unreadable, or cannot be made.
        """
        known = cls.find(database, env)
        if known is not None:
            return known
        path = _key_path(database)
        try:
            _make_key_file(path)
            return cls(_read_key_file(path))
        except SigningKeyError:
            raise
        except OSError as exc:
            raise _unusable(path, f"cannot be made ({exc.strerror or exc})") from exc

    @classmethod
    def find(cls, database: Path | None, env: Mapping[str, str] = os.environ) -> SigningKey | None:
        """Return the installation's key, or None where none has been needed yet.

        Args:
            database: As for :meth:`load`.
            env: Likewise.

        Raises:
            SigningKeyError: There is one, and it cannot be used.
        """
        given = env.get(KEY_VARIABLE)
        if given is not None:
            return cls(_secret_of_text(given))
        path = _key_path(database)
        if not os.path.exists(path):  # noqa: PTH110 - no error where a directory is none, or closed
            return None
        try:
            return cls(_read_key_file(path))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _unusable(path, f"cannot be read ({exc.strerror or exc})") from exc

    def sign(self, payload: bytes) -> str:
        """Return the signature of ``payload``: 64 lower-case hex digits."""
        return hmac.new(self._secret, payload, hashlib.sha256).hexdigest()

    def verify(self, payload: bytes, signature: object) -> bool:
        """Tell whether ``signature`` is this key's for ``payload``, in constant time."""
        if not isinstance(signature, str):
            return False
        expected = self.sign(payload).encode("ascii")
        return hmac.compare_digest(expected, signature.encode("utf-8", "replace"))

    def __repr__(self) -> str:
        return "<SigningKey>"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not stored with values")


def _secret_of_text(text: str) -> bytes:
    secret = text.strip().encode("utf-8", "surrogateescape")
    if len(secret) < _MIN_SECRET_SIZE_BYTES:
        raise SigningKeyError(
            f"{KEY_VARIABLE} has {len(secret)} bytes and needs at least {_MIN_SECRET_SIZE_BYTES}; "
            f"give it a long random text, or unset it to use the key file beside the database"
        )
    return secret


def _key_path(database: Path | None) -> Path:
    if database is not None:
        return Path(f"{os.fspath(database)}.key")
    return Path(platformdirs.user_data_dir("sostenuto", appauthor=False)) / "signing.key"


def _unusable(path: Path, what: str) -> SigningKeyError:
    return SigningKeyError(
        f"the signing key {os.fspath(path)!r} {what}; restore the file or its permissions, or give "
        f"the key in {KEY_VARIABLE}. If it is removed, a new one is made, which cannot read what "
        f"the old one signed"
    )


def _read_key_file(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - opens a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "is not a regular file")
        if os.name == "posix" and status.st_mode & 0o077:
            raise SigningKeyError(
                f"the signing key {os.fspath(path)!r} can be used by others "
                f"(mode {stat.S_IMODE(status.st_mode):04o}); run: chmod 600 {os.fspath(path)!r}, "
                f"and replace the key if somebody may have read it"
            )
        content = file.read(_MAX_KEY_FILE_SIZE_BYTES)
    if not content:
        raise _unusable(path, "is empty")
    line = _KEY_LINE.fullmatch(content)
    if line is None:
        raise _unusable(path, "is corrupt")
    return bytes.fromhex(line[1].decode("ascii"))


def _make_key_file(path: Path) -> None:
    """Make a complete key file at ``path``, unless another process was first.

    The key is written whole under another name and then linked into place, which
    fails if the name is taken: a reader never sees a short key, a kill at any point
    leaves none, and of two processes both use the one that won.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(draft, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - opens a descriptor, not a path
            key = secrets.token_bytes(_KEY_SIZE_BYTES)
            file.write(b"sostenuto-key-1 " + key.hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(descriptor)
        _place(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    _sync_directory(path.parent)


def _place(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        _place_without_links(draft, path)


def _place_without_links(draft: Path, path: Path) -> None:
    """Do what a hard link does on a file system that has none (FAT, some network shares)."""
    if os.name != "posix":
        with contextlib.suppress(FileExistsError):
            draft.rename(path)  # refuses to replace on Windows
        return
    import fcntl  # exists on POSIX alone

    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            draft.replace(path)
    finally:
        os.close(lock)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
