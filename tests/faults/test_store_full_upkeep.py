"""Upkeep on a full disk says so, leaves the file as it was, and succeeds once there is room."""

from __future__ import annotations

import pytest
from processes import running, sandbox

pytestmark = pytest.mark.faults

PROMISES = 1_500


@pytest.mark.parametrize("what", ["open", "migrate", "backup", "gc", "vacuum"])
async def test_upkeep_on_a_full_disk_is_refused_by_name_and_can_be_done_later(tmp_path, what):
    prefix = sandbox(f"mount -t tmpfs -o size=64m tmpfs {tmp_path}")
    if prefix is None:
        pytest.skip("this system lets the test mount no file system of its own")
    async with running("full_upkeep.py", tmp_path, what, prefix=prefix) as program:
        said = await program.hear("error", 120)
    if what == "gc":
        assert said["error"] in {"", "DiskFullError"}, said
        assert set(said["missing"]) <= {f"p{number:05}" for number in range(0, PROMISES, 2)}
        assert said["stored"] == PROMISES // 2 + 1
    else:
        assert said["error"] == "DiskFullError", said
        assert str(tmp_path) in said["text"]
        assert said["missing"] == []
        assert said["stored"] == PROMISES + (what != "migrate")
    assert [name for name in said["left"] if "part" in name] == []
    assert said["after"] == 200
    assert said["problems"] == []
