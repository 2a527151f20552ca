"""Every override that the table of ablation axes names composes, and makes the parts that it speaks of."""

import re
from pathlib import Path

import pytest
from hydra.utils import instantiate

from ktr.config.composing import compose

TABLE = (Path(__file__).parents[3] / "docs" / "ablation_axes.md").read_text().partition("\n## ")[0]


def overrides() -> list[str]:
    """The code of the last column; ``…=l2`` stands for the key before it."""
    found: list[str] = []
    for row in TABLE.splitlines():
        for code in re.findall(r"`([^`]+)`", row.rpartition("| ")[2]):
            found.append(code.replace("…", found[-1].rpartition("=")[0]) if code.startswith("…") else code)
    return found


def parts(*arguments: str):
    config = compose("train", arguments)
    return instantiate(config.weighting), instantiate(config.loss)


def test_the_table_names_all_of_them():
    assert len(overrides()) > 40 and len(set(overrides())) == len(overrides())


@pytest.mark.parametrize("override", overrides())
def test_every_override_of_the_table_composes_and_instantiates(override: str):
    parts(*override.split())


def test_an_override_reaches_the_part_that_it_names():
    weighting, loss = parts(
        "selection=sigmoid", "selection.gamma=1.0", "weighting.combine=mean", "loss.reduction.denominator=selected",
        "attribution.signals.visual.distance=js", "attribution.signals.visual.masking=noise_frames",
        "attribution.signals.visual.fraction=0.5", "attribution.signals.temporal.shift=signed",
        "attribution.signals.temporal.num_shuffles=3", "video.shuffle_granularity=frame",
    )  # fmt: skip
    visual, temporal = weighting.signals["visual"], weighting.signals["temporal"]
    assert (weighting.selection.curve, weighting.selection.gamma, weighting.combine) == ("sigmoid", 1.0, "mean")
    assert (visual.change.distance, visual.view.masking, visual.view.fraction) == ("js", "noise_frames", 0.5)
    assert (temporal.change.shift, len(temporal.views), temporal.views[0].granularity) == ("signed", 3, "frame")
    assert loss.reduction.denominator == "selected"


def test_the_control_of_equal_size_has_the_signals_of_its_run():
    control, run = parts("weighting=random_tokens")[0], parts("attribution=vet")[0]
    assert type(control).__name__ == "RandomTokens" and control.signals.keys() == run.signals.keys()
    assert control.selection.ratio == run.selection.ratio
