"""What ends a program before its end is one sentence with its remedy, and an exit code; a fault keeps its traceback."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from ktr.config.endings import Stopped, ending_of, stopped_by_signals
from ktr.errors import MissingData, naming
from tests.programs import outside_environment

JOB = OmegaConf.create(
    {"paths": {"run_dir": "/runs/mine", "runs": "/runs", "cache": "/cache"}, "model": {"path": "/model"}}
)
NUMBERS = ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "ENOTDIR", "EEXIST", "ENOENT", "EFBIG"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("way", ["plain", "hidden", "rust"])
def test_a_disk_that_cannot_be_written_is_one_sentence(name: str, way: str):
    number = getattr(errno, name)
    error: Exception = OSError(number, os.strerror(number))
    if way == "hidden":  # torch's archive, whose end cannot be written either
        hiding = RuntimeError("unexpected pos 64 vs 0")
        hiding.__context__, error = error, hiding
    if way == "rust":  # safetensors and tokenizers
        error = Exception(f"Error while serializing: I/O error: it broke (os error {number})")
    code, said = ending_of(error, JOB) or (0, "")
    assert code == 2 and "\n" not in said
    assert said.startswith(f"StorageError: a file of /runs/mine: {os.strerror(number).lower()}; ")
    assert said.endswith(", then start the same command again")


def test_the_file_and_the_key_of_its_place_are_named():
    with pytest.raises(OSError) as raised, naming("/cache/shapes/rows.json"):
        raise OSError(errno.EROFS, "read-only")
    _, said = ending_of(raised.value, JOB) or (0, "")
    assert said.startswith("StorageError: /cache/shapes/rows.json: ") and "(paths.cache)" in said


def test_a_run_that_lacks_only_its_report_is_not_run_again(tmp_path: Path):
    (tmp_path / "summary.json").touch()
    job = OmegaConf.merge(JOB, {"paths": {"run_dir": str(tmp_path)}})
    _, said = ending_of(OSError(errno.ENOSPC, "full"), job) or (0, "")
    assert said.endswith(f"then python -m ktr.report {tmp_path}")


def instantiating(cause: Exception, key: str) -> InstantiationException:
    error = InstantiationException(f"Error in call to target\nfull_key: {key}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "cause",
    [
        OSError("no file named model.safetensors"),
        json.JSONDecodeError("not JSON", "", 0),
        Exception("header too large"),
    ],
)
@pytest.mark.parametrize("key", ["model", "encoder"])
def test_a_model_that_lacks_a_file_or_has_a_torn_one_is_named(cause: Exception, key: str):
    code, said = ending_of(instantiating(cause, key), JOB) or (0, "")
    assert code == 2 and said.startswith("MissingModel: model.path=/model: cannot be loaded (") and str(cause) in said


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_lightning_refuses_is_one_sentence(wrapped: bool):
    error = type("MisconfigurationException", (Exception,), {})("No supported gpu backend found!")
    code, said = ending_of(instantiating(error, "trainer") if wrapped else error, JOB) or (0, "")
    assert code == 2 and said.startswith("ConfigError: trainer: No supported gpu backend found!; change trainer.*")


def test_a_part_that_cannot_be_made_is_named_by_the_key_where_it_is_written():
    job = OmegaConf.merge(JOB, {
        "algorithm": {"weighting": "${weighting}", "loss": {"beta": 1}},
        "weighting": {"signals": "${attribution.signals}"},
        "attribution": {"signals": {"mine": {"_target_": "mine.Mine"}}},
    })  # fmt: skip
    error = instantiating(ValueError("no"), "algorithm.weighting.signals.mine")
    assert ending_of(error, job) == (2, "ConfigError: attribution.signals.mine: no")
    assert ending_of(instantiating(ValueError("no"), "algorithm.loss"), job) == (2, "ConfigError: algorithm.loss: no")
    torn = instantiating(ImportError("Error loading"), "algorithm.loss")
    torn.__cause__.__cause__ = ModuleNotFoundError("No module named 'nowhere'")  # pyright: ignore
    said = "ConfigError: algorithm.loss: No module named 'nowhere'; correct its _target_, or that module"
    assert ending_of(torn, job) == (2, said)


def test_faults_of_the_program_keep_their_traceback_and_our_own_errors_their_words():
    assert ending_of(RuntimeError("a bug"), JOB) is None and ending_of(KeyError("a bug"), None) is None
    assert ending_of(instantiating(TypeError("a bug"), "reward"), JOB) is None
    assert ending_of(MissingData("rows.json is gone"), JOB) == (1, "MissingData: rows.json is gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_what_runs_inside_and_a_second_one_is_not_held_up(number: signal.Signals):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as raised, stopped_by_signals():
        try:
            signal.raise_signal(number)
        finally:
            assert signal.getsignal(number) is signal.SIG_DFL
    assert signal.getsignal(number) is before
    code, said = ending_of(raised.value, JOB) or (0, "")
    assert code == 128 + number and said.startswith(f"{number.name}: ")


ENDING = """
import os, signal
import hydra
from ktr.config.command_line import launch
from ktr.config.search_path import CONF

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="attribute")
def job(config):
    {}

launch(job, "attribute")
"""


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "ktr.attribute: SIGTERM: ended; start the same command again"),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "ktr.attribute: SIGINT: ended; start the same command again"),
        (
            "os.write(os.open('/dev/full', os.O_WRONLY), b'x')",
            2,
            "ktr.attribute: StorageError: a file of runs/attribute-16f-s0: no sp",
        ),
    ],
)
def test_a_program_ends_so(body: str, code: int, said: str, tmp_path: Path):
    command = [sys.executable, "-c", ENDING.format(body)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=outside_environment(), timeout=120)
    assert done.returncode == code and done.stderr.splitlines()[-1].startswith(said), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        type("DistStoreError", (RuntimeError,), {})("Timed out after 21 seconds waiting for clients."),
        RuntimeError("[/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:1"),
        RuntimeError("NCCL communicator was aborted on rank 1.\nmore"),
    ],
)
def test_ranks_that_are_out_of_reach_are_one_sentence_with_the_limits(error: Exception):
    job = OmegaConf.merge(JOB, {"trainer": {"strategy": {"start_limit_s": 600, "time_limit_s": 20}}})
    code, said = ending_of(error, job) or (0, "")
    assert code == 1 and "\n" not in said and said.startswith("LostRank: the other ranks cannot be reached")
    assert "start_limit_s=600, " in said and "trainer.strategy.time_limit_s=20 (" in said
    assert said.endswith("from the last checkpoint")
