"""What asking a benchmark costs beside whoever answers, from the check of its files to its results.

python -m benchmarks.evaluation [--items 5000]
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.evaluation.asking.ask import Answered, Reply, Take
from ktr.evaluation.benchmark_run import ask_benchmark

REASONING = "<think>" + "It is the second one that moves to the left, so that the color is red. " * 16 + "</think>"


class Instant:
    """Answers at once, with as much reasoning as a policy writes."""

    def answers(self, take: Take) -> Iterator[Answered]:
        while (ask := take()) is not None:
            replies = (Reply(f"{REASONING}<answer>B</answer>"),) * ask.sampling.num_completions
            yield Answered(ask, replies, num_frames=(16,), prompt_tokens=2000, completion_tokens=300)

    def close(self) -> None:
        """Nothing to free."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    num_items = parser.parse_args().items
    with TemporaryDirectory(prefix="ktr-benchmark-") as folder:
        rows = [
            {
                "problem_id": number, "problem": f"What color is number {number}?", "options": ["A. red", "B. blue"],
                "problem_type": "multiple choice", "solution": "<answer>B</answer>", "path": f"{number % 900}.mp4",
                "original_question_type": f"task {number % 20}",
            }
            for number in range(num_items)
        ]  # fmt: skip
        Path(folder, "rows.json").write_text(json.dumps(rows))
        for number in range(900):
            Path(folder, f"{number}.mp4").write_bytes(b"x")
        given = [f"benchmark.annotations={folder}/rows.json", f"benchmark.media_root={folder}", f"paths.runs={folder}"]
        for decoding, more in {"greedy": [], "vote": ["decoding.sampling.num_completions=8"]}.items():
            config = compose("evaluate", ["benchmark=own", f"decoding={decoding}", f"name={decoding}", *given, *more])
            config.endpoint = OmegaConf.create({"_target_": "benchmarks.evaluation.Instant"})
            start = perf_counter()
            ask_benchmark(config)
            milliseconds = 1000 * (perf_counter() - start) / num_items
            sys.stdout.write(f"{decoding}: {milliseconds:.2f} ms an item (n = {num_items})\n")


if __name__ == "__main__":
    main()
