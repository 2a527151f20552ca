"""The share of a step's time that ``callbacks.gradient_alignment`` takes at its default interval, on both worlds.

python -m benchmarks.gradients [--measurements 6]
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

from ktr.analysis.statistics import mean_interval
from ktr.record.step_table import read_columns

WORLDS = {"shapes": [], "shapes_long": ["data=shapes_long", "model=shapes_long"]}
INTERVAL = 10  # of conf/callbacks/default.yaml


def shares(timings: Path) -> list[float]:
    """Seconds of each measurement by those of the ten steps that it stands for, its own time taken out of its step."""
    columns = read_columns(timings)
    measured = dict(zip(*columns["time/gradients_seconds"], strict=True))
    steps = dict(zip(*columns["train/step_seconds"], strict=True))
    found = []
    for at, seconds in list(measured.items())[1:]:  # the first step of a process also compiles and warms up
        without = [steps[step] - measured.get(step, 0.0) for step in range(at, at + INTERVAL) if step in steps]
        found.append(seconds / sum(without) * len(without) / INTERVAL)
    return found


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", type=int, default=6)
    arguments = parser.parse_args()
    num_steps = INTERVAL * (arguments.measurements + 1)
    with TemporaryDirectory(prefix="ktr-benchmark-") as folder:
        for world, overrides in WORLDS.items():
            command = [
                *(sys.executable, "-m", "ktr.train", f"name={world}", f"paths.runs={folder}", *overrides),
                *(f"trainer.max_steps={num_steps}", "data.validation.num_questions=8", "probe.num_questions=8"),
                "callbacks.live_report=null",
            ]
            run(command, check=True, stdout=sys.stderr)
            share = mean_interval(shares(Path(folder, world, "timings.csv")))
            half = 0.0 if share.half_width is None else share.half_width
            sys.stdout.write(f"{world}: {100 * share.mean:.1f} % ± {100 * half:.1f} of a step (n = {share.n})\n")


if __name__ == "__main__":
    main()
