"""What reads questions ahead in several threads gives each thread an encoder of its own, in every program."""

from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import pytest

from ktr.config.composing import compose
from ktr.evaluation import attribute, run
from ktr.policy.encoder import Encoder
from ktr.study import run as study

SMALL = ["data.num_decoders=3", "data.validation.num_questions=6"]
TOGETHER = 3


class Enough(Exception):
    """Raised once threads have met."""


def of_evaluate(tmp_path: Path) -> None:
    config = compose("evaluate", [*SMALL, f"paths.runs={tmp_path}", "data.validation_batch_size=3"])
    next(iter(run._prepare(config)[3].val_dataloader()))


def of_attribute(tmp_path: Path) -> None:
    options = [f"paths.runs={tmp_path}", "data.validation_batch_size=3", "num_questions=3"]
    attribute.run_attribution(compose("attribute", [*SMALL, *options]))


def of_study(tmp_path: Path) -> None:
    options = [f"paths.runs={tmp_path}", "num_groups=24", "data.questions_per_step=3", "data.train.num_questions=24"]
    study.run_study(compose("study", [*SMALL, *options]))


@pytest.mark.parametrize("program", [of_evaluate, of_attribute, of_study])
def test_no_encoder_is_used_by_two_threads(
    program: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    met, lock, used = Barrier(TOGETHER), Lock(), []

    def encode(self: Encoder, question: Any) -> Any:
        with lock:
            used.append(id(self))
        met.wait(timeout=30)
        raise Enough

    monkeypatch.setattr(Encoder, "encode", encode)
    with pytest.raises(Enough):
        program(tmp_path)
    assert len(set(used[:TOGETHER])) == TOGETHER
