"""The embedded worlds as benchmarks: their rows are in Video-R1's form."""

from dataclasses import dataclass

from ktr.evaluation.benchmarks.own import OwnBenchmark
from ktr.shapes.dataset_folder import ShapesDataset


@dataclass(frozen=True)
class ShapesBenchmark(OwnBenchmark):
    """The questions of a data set of a world."""

    name = "shapes"


def shapes_benchmark(dataset: ShapesDataset, limit: int | None = None) -> ShapesBenchmark:
    """The questions of a data set of the world, which is written at its first use."""
    return ShapesBenchmark(str(dataset.annotations), str(dataset.media_root), limit)
