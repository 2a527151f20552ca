"""W&B is offline where it has no key, and online where it has one."""

import pytest

from ktr.config.run_names import no_wandb_key


@pytest.fixture(autouse=True)
def empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_no_key_anywhere_is_offline():
    assert no_wandb_key()


def test_a_key_in_the_environment_is_online(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert not no_wandb_key()


def test_a_key_in_netrc_is_online(empty_home):
    file = empty_home / ".netrc"
    file.write_text("machine api.wandb.ai login user password secret\n")
    file.chmod(0o600)
    assert not no_wandb_key()
