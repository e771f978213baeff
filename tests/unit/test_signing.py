"""The installation's key: one per database, private, never short."""

import multiprocessing
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from durable.errors import DurableError, SigningKeyError
from durable.signing import KEY_VARIABLE, SigningKey

pytestmark = pytest.mark.unit


def key_file(database: Path) -> Path:
    return Path(f"{database}.key")


def test_the_key_is_made_beside_the_database_and_is_private(tmp_path):
    database = tmp_path / "runs.db"
    key = SigningKey.load(database, env={})
    assert stat.S_IMODE(key_file(database).stat().st_mode) == 0o600
    assert SigningKey.load(database, env={}).verify(b"x", key.sign(b"x"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.db.key"]


def test_two_installations_have_different_keys(tmp_path):
    one = SigningKey.load(tmp_path / "a.db", env={})
    other = SigningKey.load(tmp_path / "b.db", env={})
    assert not other.verify(b"x", one.sign(b"x"))


def test_a_key_in_the_environment_wins_and_makes_no_file(tmp_path):
    env = {KEY_VARIABLE: "correct horse battery staple"}
    one = SigningKey.load(tmp_path / "a.db", env)
    other = SigningKey.load(tmp_path / "b.db", env)
    assert other.verify(b"x", one.sign(b"x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "   ", "short", "fifteen bytes.."])
def test_a_short_key_in_the_environment_is_refused_with_the_remedy(tmp_path, text):
    with pytest.raises(SigningKeyError, match=KEY_VARIABLE):
        SigningKey.load(tmp_path / "a.db", {KEY_VARIABLE: text})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666, 0o601])
def test_a_key_file_others_can_use_is_refused_with_the_command_that_helps(tmp_path, mode):
    database = tmp_path / "runs.db"
    SigningKey.load(database, env={})
    key_file(database).chmod(mode)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        SigningKey.load(database, env={})


@pytest.mark.parametrize(
    "content", [b"", b"x", b"sostenuto-key-1 " + b"a" * 63 + b"\n", b"\0" * 81]
)
def test_an_empty_or_corrupt_key_file_is_refused_and_left_alone(tmp_path, content):
    path = key_file(tmp_path / "runs.db")
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SigningKeyError) as caught:
        SigningKey.load(tmp_path / "runs.db", env={})
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, DurableError)
    assert path.read_bytes() == content


def test_a_key_that_is_a_directory_or_has_no_place_is_a_typed_error(tmp_path):
    key_file(tmp_path / "runs.db").mkdir()
    with pytest.raises(SigningKeyError):
        SigningKey.load(tmp_path / "runs.db", env={})
    (tmp_path / "file").write_text("")
    with pytest.raises(SigningKeyError):
        SigningKey.load(tmp_path / "file" / "runs.db", env={})


def test_without_a_database_the_key_is_in_the_users_data_location(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *a, **k: str(tmp_path / "data"))
    key = SigningKey.load(None, env={})
    assert SigningKey.load(None, env={}).verify(b"x", key.sign(b"x"))
    assert stat.S_IMODE((tmp_path / "data" / "signing.key").stat().st_mode) == 0o600


def test_a_file_system_without_hard_links_still_gets_one_whole_key(tmp_path, monkeypatch):
    def no_links(*_args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    key = SigningKey.load(tmp_path / "runs.db", env={})
    assert SigningKey.load(tmp_path / "runs.db", env={}).verify(b"x", key.sign(b"x"))


def _sign_when_told(database, barrier, signatures):
    barrier.wait()
    signatures.put(SigningKey.load(database, env={}).sign(b"x"))


def test_processes_that_need_the_first_key_at_once_agree_on_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, signatures = context.Barrier(6), context.Queue()
    arguments = (tmp_path / "runs.db", barrier, signatures)
    processes = [context.Process(target=_sign_when_told, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    assert len({signatures.get(timeout=60) for _ in processes}) == 1
    for process in processes:
        process.join(60)


def test_a_kill_while_keys_are_made_leaves_none_or_a_whole_one(tmp_path):
    program = textwrap.dedent("""
        import itertools, sys
        from pathlib import Path
        from durable.signing import SigningKey
        print("ready", flush=True)
        for n in itertools.count():
            SigningKey.load(Path(sys.argv[1]) / f"{n}.db", env={})
    """)
    for delay_ms in (1, 5, 20):
        directory = tmp_path / str(delay_ms)
        directory.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(delay_ms / 1000)  # where in its loop the kill finds it does not matter
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for path in directory.glob("*.db.key"):
            SigningKey.load(Path(str(path).removesuffix(".key")), env={})


@pytest.mark.parametrize("signature", ["", "0" * 64, "é" * 64, None, b"x", 3])
def test_what_is_not_the_signature_does_not_verify(signature):
    assert not SigningKey.generate().verify(b"x", signature)


def test_a_key_shows_itself_nowhere_and_is_not_stored():
    key = SigningKey(b"very secret bytes")
    assert "secret" not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
