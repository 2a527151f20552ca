"""The root schemas: what conf/train.yaml, conf/evaluate.yaml, conf/rescore.yaml, conf/attribute.yaml,
attribute_own.yaml, conf/study.yaml and conf/duplicates.yaml may hold.

``_target_`` leaves have no schema of their own: the constructor's signature is the schema (``ktr.config.keys``).
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Paths:
    """Where things are. ``folder`` is the run's, below ``runs``; ``run_dir`` is both together."""

    runs: str = MISSING
    models: str = MISSING
    data: str = MISSING
    cache: str = MISSING
    folder: str = MISSING
    run_dir: str = MISSING


@dataclass
class Program:
    """What every entry point has: the policy, its prompts and its data, each a ``_target_`` node of conf/."""

    seed: int = 0
    name: str = MISSING
    resume: bool = True
    paths: Paths = field(default_factory=Paths)
    data: Any = MISSING
    video: Any = MISSING
    prompt: Any = MISSING
    encoder: Any = MISSING
    model: Any = MISSING
    rollout: Any = MISSING
    sampling: Any = MISSING
    scorer: Any = MISSING


@dataclass
class Rung:
    """How long the rows of a rung run, with which seeds, and how many rows of each method go on to the next."""

    updates: int = MISSING
    seeds: list[int] = MISSING
    keep: int = 1


@dataclass
class Table:
    """A table of the paper as a sweep: conf/experiment/table/*.yaml.

    ``rows`` maps a row, by its key in the published results, to the overrides that make it. ``row`` is the one that a
    single run is, and ``baseline`` the one that the others are compared with. Each row is run with each of ``seeds``;
    by ``ktr.sweep.halving`` as the ``rungs`` say.
    """

    name: str = MISSING
    title: str = MISSING
    baseline: str = MISSING
    rows: dict[str, list[str]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    rungs: list[Rung] = field(default_factory=list)
    row: str | None = None


@dataclass
class Validation:
    """Benchmarks that are measured beside the held-out questions: ``num_items`` of each, always the same.

    An entry is a benchmark's name, or its ``name`` with keys of its file, such as ``annotations``.
    """

    benchmarks: list[Any] = field(default_factory=list)
    num_items: int = 64


@dataclass
class Train(Program):
    """conf/train.yaml."""

    reward: Any = MISSING
    advantage: Any = MISSING
    answers: Any = MISSING
    selection: Any = MISSING
    attribution: Any = MISSING
    weighting: Any = MISSING
    loss: Any = MISSING
    algorithm: Any = MISSING
    optimizer: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    callbacks: Any = MISSING
    labels: dict[str, str] = field(default_factory=dict)
    validation: Validation = field(default_factory=Validation)
    dynamic_sampling: Any = None
    probe: Any = None
    table: Table | None = None


@dataclass
class Evaluate(Program):
    """conf/evaluate.yaml, and conf/dry_run.yaml, which only looks whether the files of ``benchmark`` are there.

    ``endpoint`` is asked in place of the policy, if it is one, and ``judge`` where no rule reads an answer. ``rule``
    takes the place of the benchmark's own.
    ``as_trained`` are the nodes that the policy of a run is asked with (``config.as_trained``).
    """

    reward: Any = MISSING
    answers: Any = MISSING
    decoding: Any = MISSING
    benchmark: Any = None
    endpoint: Any = None
    judge: Any = None
    as_trained: list[str] = MISSING
    rule: str | None = None
    batch_size: int = 32
    num_decoders: int = 2
    retry_failed: bool = False
    dry_run: bool = False


@dataclass
class Fields:
    """Under which keys the records of another project have what is needed; None: under one of the usual names."""

    output: str | None = None
    answer: str | None = None
    id: Any = None
    options: str | None = None
    subtask: str | None = None
    type: str | None = None
    question: str | None = None
    video: str | None = None


@dataclass
class Rescore:
    """conf/rescore.yaml: the records of replies, the rule or rules that score them, records to compare with."""

    rescore: str = MISSING
    rule: Any = MISSING
    metric: str = MISSING
    fields: Fields = field(default_factory=Fields)
    against: str | None = None
    output: str | None = None


@dataclass
class Attribute(Program):
    """conf/attribute.yaml and conf/attribute_own.yaml.

    ``label`` knows the ground truth of tokens. What is asked in place of the data: ``question`` about ``media``, or the
    rows of ``rows``. ``completion`` is scored in place of samples, ``compare`` scores the same ones.
    """

    reward: Any = MISSING
    advantage: Any = MISSING
    selection: Any = MISSING
    attribution: Any = MISSING
    weighting: Any = MISSING
    num_questions: int = MISSING
    label: Any = None
    media: Any = None
    question: str | None = None
    options: list[str] | None = None
    rows: str | None = None
    media_root: str | None = None
    format: Any = None
    completion: str | None = None
    compare: str | None = None
    output: str | None = MISSING


@dataclass
class Study(Program):
    """conf/study.yaml.

    ``label`` knows the kind of each token, one of ``kinds``; ``oracles`` are unions of kinds by name. Without it there
    are neither. ``ratios`` are those of the selection for which the union of the signals is measured as well.
    ``others`` are weightings to compare.
    """

    reward: Any = MISSING
    advantage: Any = MISSING
    selection: Any = MISSING
    attribution: Any = MISSING
    weighting: Any = MISSING
    loss: Any = MISSING
    num_groups: int = MISSING
    ratios: list[float] = MISSING
    eps: float = MISSING
    max_gib: float = MISSING
    label: Any = None
    kinds: list[str] = MISSING
    oracles: dict[str, list[str]] = MISSING
    others: dict[str, Any] = field(default_factory=dict)


@dataclass
class Duplicates:
    """conf/duplicates.yaml: the training data, the benchmarks (as in ``Validation``), and how they are compared."""

    seed: int = 0
    name: str = MISSING
    resume: bool = True
    paths: Paths = field(default_factory=Paths)
    video: Any = MISSING
    data: Any = MISSING
    benchmarks: list[Any] = MISSING
    search: Any = MISSING
    output: str = MISSING


def register_schemas() -> None:
    """Make the schemas known to Hydra by the names that conf/*.yaml start with."""
    programs = {
        "train": Train, "evaluate": Evaluate, "attribute": Attribute, "rescore": Rescore, "study": Study,
        "duplicates": Duplicates,
    }  # fmt: skip
    for name, schema in programs.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)
