"""Fixtures several unit test modules share."""

from __future__ import annotations

import pytest
from hypothesis import settings
from protocol_asked import Asked
from protocol_subjects import ModelSubject, StoreSubject

# How long one example takes says how busy the machine is; speed is measured in tests/bench.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(params=["model", "store"])
async def subject(request, tmp_path):
    """The model and the store in turn, ready for questions."""
    chosen = ModelSubject() if request.param == "model" else StoreSubject(tmp_path / "facts.db")
    await chosen.open()
    yield Asked(chosen)
    await chosen.close()
