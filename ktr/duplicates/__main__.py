"""``python -m ktr.duplicates data=video_r1_260k benchmarks=[mmvu,mvbench]``: training rows that a benchmark has too.

compose → check → rows and items → hashes, kept for the next time → table, duplicates.jsonl
"""

import json
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from ktr.config.command_line import launch
from ktr.config.composing import benchmark_nodes
from ktr.config.free_text import literal
from ktr.config.requirements import require_data
from ktr.config.search_path import CONF

TEXTS = ("output", "data.train.annotations", "data.train.media_root")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="duplicates")
def duplicates(config: DictConfig) -> None:
    require_data(config.data.train, "data.train")
    nodes = benchmark_nodes(config, "benchmarks")
    OmegaConf.resolve(config)
    from hydra.utils import instantiate  # these load torch: only once the command line is known to be right

    from ktr.duplicates.search import Search
    from ktr.duplicates.sides import benchmark_rows, training_rows
    from ktr.record.json_file import write_whole

    search: Search = instantiate(config.search)
    benchmarks = {name: benchmark_rows(name, instantiate(node)) for name, node in nodes.items()}
    found = search.run(training_rows(config.data.train), benchmarks)
    output = Path(config.output).expanduser()
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in found.lines))
    sys.stdout.write(f"{found.table()}\n{output}\n")


def main() -> None:
    sys.argv[1:] = literal(sys.argv[1:], TEXTS)
    launch(duplicates, "duplicates")


if __name__ == "__main__":
    main()
