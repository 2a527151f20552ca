"""The embedded worlds as benchmarks: their rows are in Video-R1's form."""

from ktr.evaluation.benchmarks.own import OwnBenchmark
from ktr.shapes.dataset_folder import ShapesDataset


def shapes_benchmark(dataset: ShapesDataset, limit: int | None = None) -> OwnBenchmark:
    """The questions of a data set of the world, which is written at its first use."""
    return OwnBenchmark(str(dataset.annotations), str(dataset.media_root), limit)
