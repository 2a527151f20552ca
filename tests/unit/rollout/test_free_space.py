"""Shared memory that is too small is named before it is filled."""

from pathlib import Path

import pytest

from ktr.errors import EngineError
from ktr.rollout.free_space import require_space


def test_weights_that_do_not_fit_are_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 64 * 2**20})())
    require_space("vLLM", 64 * 2**20, tmp_path)
    with pytest.raises(EngineError, match=r"15\.00 GiB of .*, which has 0\.06 GiB left; .*--shm-size") as caught:
        require_space("vLLM", 15 * 2**30, tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
