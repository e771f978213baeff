"""From a URL to an engine, or to an error that says what would be right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from durable import Durable
from durable.config import default_database, load_connector, parse_url
from durable.errors import ConfigurationError, EngineUnavailableError, MissingExtraError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "kind", "path"),
    [
        ("sqlite:///runs.db", "sqlite", Path("runs.db")),
        ("sqlite:////data/runs.db", "sqlite", Path("/data/runs.db")),
        ("sqlite:///with%20space.db", "sqlite", Path("with space.db")),
        ("runs.db", "sqlite", Path("runs.db")),
        ("./a/b.db", "sqlite", Path("a/b.db")),
        (Path("/x/y.db"), "sqlite", Path("/x/y.db")),
        ("memory:", "memory", None),
        ("postgresql://u:p@h/db", "postgresql", None),
        ("postgres://h/db", "postgresql", None),
        ("nats://h:4222", "nats", None),
        ("http://h:8001", "http", None),
        ("https://h", "http", None),
        ("SQLITE:///runs.db", "sqlite", Path("runs.db")),
    ],
)
def test_urls_and_paths_name_an_engine(url: Any, kind: str, path: Path | None) -> None:
    parsed = parse_url(url)
    assert (parsed.kind, parsed.path) == (kind, path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "names no engine"),
        ("  ", "names no engine"),
        (None, "names no engine"),
        ("mysql://h/db", "unknown scheme 'mysql'"),
        ("sqlite://host/x.db", "absolute"),
        ("sqlite:///", "names no file"),
        ("sqlite::memory:", "forgets"),
        ("http://", "names no server"),
        ("http://127.0.0.1:eighty", "names no server"),
        ("http://127.0.0.1:99999", "names no server"),
    ],
)
def test_a_url_that_cannot_be_used_is_named_with_the_remedy(url: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_url(url)


def test_the_default_database_is_the_users_own(tmp_path: Path) -> None:
    assert default_database({"SOSTENUTO_DB": "/x/y.db"}) == Path("/x/y.db")
    assert default_database({}).name == "runs.db"
    assert "sostenuto" in str(default_database({}))


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://h/db", "resonate_pg", "postgres"),
        ("nats://h", "resonate_nats", "nats"),
    ],
)
async def test_a_missing_extra_names_the_pip_command(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'sostenuto\[{extra}\]'"):
        async with Durable(url):
            pass
    with pytest.raises(MissingExtraError):
        load_connector(module, "X", extra, url)


async def test_a_server_that_nobody_runs_is_an_error_of_the_engine() -> None:
    with pytest.raises(EngineUnavailableError, match=r"127\.0\.0\.1:9"):
        async with Durable("http://127.0.0.1:9"):
            pass


@pytest.mark.parametrize("scheme", ["postgresql", "nats", "https"])
def test_a_password_is_shown_to_nobody(scheme: str) -> None:
    app = Durable(f"{scheme}://user:s3cret@host:1234/db")
    assert "s3cret" not in repr(app)
    assert "user:***@host:1234/db" in repr(app)
    with pytest.raises(ConfigurationError) as caught:
        parse_url("mysql://user:s3cret@host/db")
    assert "s3cret" not in str(caught.value)
