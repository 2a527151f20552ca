"""What evaluate's command line says of a benchmark and of records, checked before any heavy import."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ktr.errors import ConfigError, InputError, MissingData

METRICS = ("micro", "macro", "answered", "vsi_bench")


def check_benchmark(config: Mapping[str, Any]) -> None:
    """Raise InputError, MissingData or ConfigError where files are not there, or what needs a benchmark has none."""
    if "rescore" in config:
        for key in ("rescore", "against"):
            if config[key] is not None and not Path(config[key]).expanduser().exists():
                raise InputError(f"{key}={config[key]}: there is no such file; give the records of replies")
        if config["metric"] not in METRICS:
            raise ConfigError(f"metric={config['metric']}: choose one of {', '.join(METRICS)}")
    benchmark, dry_run = config.get("benchmark"), config.get("dry_run")
    if dry_run and benchmark is None:
        raise ConfigError("dry_run=true looks at a benchmark: give benchmark=… as well")
    if config.get("endpoint") is not None and benchmark is None:
        raise ConfigError("endpoint=… is asked the items of a benchmark: give benchmark=… as well")
    for key in ("annotations", "media_root"):
        if benchmark is not None and key in benchmark and not Path(benchmark[key]).expanduser().exists():
            how = benchmark.get("how_to_get", "")
            raise MissingData(f"benchmark.{key}={benchmark[key]} does not exist. {how}".rstrip())
