"""Where vLLM is not installed, a run that asks for it says so in one line, before it does anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktr.errors import MissingExtra
from ktr.rollout.vllm.setup import require_vllm

REPOSITORY = Path(__file__).parents[3]
# A module that is None can't be imported: vLLM is missing wherever this runs.
WITHOUT_VLLM = """
import atexit, runpy, sys
sys.modules["vllm"] = None
heavy = ("torch", "lightning", "transformers", "av")
atexit.register(lambda: sys.stderr.write("imported: " + ",".join(m for m in heavy if m in sys.modules) + "\\n"))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("engine", ["vllm_colocate", "vllm_server"])
def test_a_run_with_vllm_ends_with_one_line_that_names_the_extra_before_any_heavy_import_or_file(
    engine: str, tmp_path: Path
):
    environment = {k: v for k, v in os.environ.items() if k != "KTR_RUNS"} | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", WITHOUT_VLLM, "ktr.train", f"rollout={engine}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    message, imported = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert message.startswith("ktr.train: MissingExtra: vllm is not installed: pip install 'ktr[vllm]'")
    assert imported == "imported: "
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_built_by_hand_says_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ktr\[vllm\]'"):
        require_vllm()
