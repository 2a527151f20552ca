"""What of a composed config the plan computes with: sizes, passes, precision, places. Nothing of it is instantiated."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isqrt
from pathlib import Path
from typing import Any

from ktr.config.even_shares import num_ranks
from ktr.errors import ConfigError
from ktr.plan.architecture import Architecture
from ktr.plan.options import Options

_TEXT_TOKENS = 160  # of question, options and chat template, where an option doesn't say
_CHARACTERS_PER_TOKEN = 4
_TIME_TOKENS = 10  # Qwen3-VL writes the seconds of each temporal patch, and two marks around it
_WORDING = 700  # characters of the default instruction and sentence of a type


@dataclass(frozen=True)
class PlannedView:
    """A counterfactual pass: ``kept`` of the visual tokens are in its row, and the tower may run again for it."""

    name: str
    kept: float = 1.0
    runs_tower: bool = False


@dataclass(frozen=True)
class Span:
    """One group in a packed row: a prompt and G completions of as many tokens each."""

    prompt: int
    completions: int
    length: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.targets

    @property
    def targets(self) -> int:
        return self.completions * self.length


@dataclass(frozen=True)
class RunSettings:
    """One run. ``engine`` is the class of its rollouts ("" of supervised training); ``num_factual`` are its passes of
    the factual view without gradient, ``num_head`` further runs of the head alone. ``num_updates`` is None where the
    length is given in epochs. ``grid`` is that of a video in patches (time, height, width). ``shard`` is over how many
    GPUs weights and states are spread, ``can_spread`` whether they may be; ``cpu_offload``: they are on the host, and
    gathered for each pass. ``is_matched``: updates are as long as GRPO's (``MatchedAdamW``). ``loads_folder`` is False
    of a policy that has no options."""

    name: str
    model_path: Path
    loads_folder: bool
    accelerator: str
    num_gpus: int
    num_nodes: int
    shard: int
    can_spread: bool
    cpu_offload: bool
    questions_per_step: int
    num_updates: int | None
    updates_per_rollout: int
    grid: tuple[int, int, int]
    visual_tokens: int
    prompt_tokens: int
    num_completions: int
    max_tokens: int
    completion_tokens: int
    dtype: str
    is_mixed: bool
    gradient_checkpointing: bool
    freeze: tuple[str, ...]
    lora: Mapping[str, Any] | None
    chunk_size: int
    max_tokens_per_pass: int
    views: tuple[PlannedView, ...]
    has_reference: bool
    num_factual: int
    num_head: int
    engine: str
    contrast_completions: int
    max_rows: int
    gpu_memory_utilization: float
    sleep: bool
    is_matched: bool

    @property
    def is_gpu(self) -> bool:
        return self.accelerator != "cpu"

    @property
    def num_groups(self) -> int:
        """Questions of a step on one GPU."""
        return ceil(self.questions_per_step / self.num_gpus)

    @property
    def colocated(self) -> bool:
        return self.engine == "VLLMColocateEngine"

    @property
    def weight_bytes(self) -> int:
        """Bytes of a number of the weights, gradients and optimizer states."""
        return 4 if self.dtype == "float32" else 2

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number that a matrix product reads and writes."""
        return 2 if self.is_mixed else self.weight_bytes

    @property
    def casts_weights(self) -> bool:
        """Whether each product makes a copy of its weight in the lower precision, which backward keeps."""
        return self.compute_bytes < self.weight_bytes

    @property
    def gathers(self) -> bool:
        """Whether a pass needs weights that its GPU does not hold."""
        return self.shard > 1 or self.cpu_offload

    def span(self, length: int, kept: float = 1.0) -> Span:
        """A group with completions of ``length`` tokens behind a prompt with a part of its visual tokens."""
        dropped = self.visual_tokens - round(self.visual_tokens * kept)
        return Span(self.prompt_tokens - dropped, self.num_completions, length)

    def rows(self, length: int) -> list[int]:
        """How many groups each packed row of an update holds."""
        per_row = max(1, self.max_tokens_per_pass // self.span(length).tokens)
        full, rest = divmod(self.num_groups, per_row)
        return [per_row] * full + [rest] * (rest > 0)


def read_settings(config: Mapping[str, Any], model: Architecture, options: Options) -> RunSettings:
    """Of a resolved config of ``ktr.train``. Raises ConfigError where it leaves a number to the machine."""
    trainer, video, sampling = config["trainer"], config["video"], config["sampling"]
    settings, rollout, given = config["model"], config["rollout"], config["algorithm"]
    loads_a_folder = _class(settings) == "load_policy"  # another policy is of a world of its own
    dtype = settings.get("dtype", "float32")
    dtype = model.dtype if dtype == "auto" else dtype
    is_supervised = "weighting" not in given
    num_gpus, strategy = _num_gpus(trainer), trainer.get("strategy")
    is_spread = isinstance(strategy, Mapping) and _class(strategy) == "ShardedStrategy"
    is_matched = _class(config["optimizer"]) == "MatchedAdamWCosine"
    grid = _grid(video, model)
    visual = grid[0] * grid[1] * grid[2] // model.tower.merge_area
    longest = min(sampling["max_tokens"], config["encoder"].get("max_answer_tokens") or sampling["max_tokens"])
    weighting, loss = given.get("weighting") or {}, given.get("loss") or {}
    views = _views(weighting)
    counts_selected = any(_counts_selected(part) for part in config["reward"].get("rewards", {}).values() if part)
    contrasts = [p for p in config["reward"].get("rewards", {}).values() if p and _class(p) == "TemporalContrast"]
    factual = (_class(weighting) == "BatchEntropy") + counts_selected + bool(rollout.get("overlap"))
    max_steps = trainer.get("max_steps", -1)
    return RunSettings(
        name=str(config["name"]),
        model_path=Path(settings["path"]),
        loads_folder=loads_a_folder,
        accelerator=str(trainer["accelerator"]),
        num_gpus=num_gpus,
        num_nodes=int(trainer.get("num_nodes") or 1),
        shard=num_gpus if is_spread else 1,
        can_spread=not (_class(rollout) == "VLLMServerEngine" or rollout.get("lora") == "adapters" or is_matched),
        cpu_offload=is_spread and bool(strategy.get("cpu_offload")) and trainer["accelerator"] != "cpu",
        questions_per_step=config["data"]["questions_per_step"],
        num_updates=max_steps if max_steps >= 0 else None,
        updates_per_rollout=given.get("updates_per_rollout", 1),
        grid=grid,
        visual_tokens=visual,
        prompt_tokens=min(
            visual + _text_tokens(config, model, grid[0], options), config["encoder"]["max_prompt_tokens"]
        ),
        num_completions=1 if is_supervised else sampling["num_completions"],
        max_tokens=longest,
        completion_tokens=min(longest, options.completion_tokens or ceil(longest / 2)),
        dtype=dtype,
        is_mixed=trainer.get("precision") in ("bf16-mixed", "bf16"),  # one to Lightning
        gradient_checkpointing=bool(settings.get("gradient_checkpointing")) if loads_a_folder else False,
        freeze=tuple(settings.get("freeze") or ()),
        lora=settings.get("lora"),
        chunk_size=config["scorer"]["chunk_size"],
        max_tokens_per_pass=config["scorer"]["max_tokens_per_pass"],
        views=views * (1 + counts_selected),
        has_reference=loss.get("beta", 0.0) > 0,
        num_factual=factual,
        num_head=int(_class(weighting) == "GroupDivergence"),
        engine="" if is_supervised else _class(rollout),
        contrast_completions=sum(round(p.get("share", 0.5) * sampling["num_completions"]) for p in contrasts),
        max_rows=rollout.get("max_rows") or rollout.get("max_num_seqs") or 256,
        gpu_memory_utilization=rollout.get("gpu_memory_utilization", 0.0),
        sleep=bool(rollout.get("sleep")),
        is_matched=is_matched,
    )


def _class(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _num_gpus(trainer: Mapping[str, Any]) -> int:
    if (count := num_ranks(trainer)) is None:
        devices = trainer.get("devices")
        raise ConfigError(f"trainer.devices={devices}: a plan needs their number; give trainer.devices=8")
    return count


def _grid(video: Mapping[str, Any], model: Architecture) -> tuple[int, int, int]:
    """Patches of a video whose frames fill ``video.max_pixels``: as square as so many visual tokens can be."""
    tower = model.tower
    per_frame = max(1, int(video["max_pixels"]) // (tower.patch * tower.merge) ** 2)
    height = next(side for side in range(isqrt(per_frame), 0, -1) if per_frame % side == 0)
    time = ceil(int(video["num_frames"]) / tower.temporal_patch)
    return time, height * tower.merge, per_frame // height * tower.merge


def _text_tokens(config: Mapping[str, Any], model: Architecture, num_patches: int, options: Options) -> int:
    times = _TIME_TOKENS * num_patches if model.is_qwen3 else 0
    if options.text_tokens:
        return options.text_tokens + times
    prompt = config.get("prompt") or {}
    characters = len(prompt["instruction"]) if "instruction" in prompt else _WORDING
    return _TEXT_TOKENS + characters // _CHARACTERS_PER_TOKEN + times


def _views(weighting: Mapping[str, Any]) -> tuple[PlannedView, ...]:
    """The union of the views of the signals that a weighting reads. A signal of one's own counts as a factual row."""
    found: dict[Any, PlannedView] = {}
    for name, signal in (weighting.get("signals") or {}).items():
        match _class(signal) if signal else "EntropySignal":
            case "EntropySignal" | "RandomSignal":
                continue
            case "VisualSignal":
                masking, fraction = signal.get("masking", "drop"), float(signal.get("fraction", 1.0))
                kept = 1 - fraction if masking.startswith("drop") else 1.0
                found[masking, fraction] = PlannedView("masked", kept, runs_tower=masking.endswith("frames"))
            case "TemporalSignal":
                granularity, order = signal.get("granularity", "temporal_patch"), signal.get("order", "random")
                for draw in range(int(signal.get("num_shuffles", 1))):
                    found[granularity, order, draw] = PlannedView("shuffled", runs_tower=granularity == "frame")
            case _:
                found[name] = PlannedView(name)
    return tuple(found.values())


def _counts_selected(part: Mapping[str, Any]) -> bool:
    return part.get("count") == "selected"
