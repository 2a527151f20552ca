"""Which tokens of a policy's answers the signals select: records, and pages for the eye.

The answers are to held-out questions of the data, or to what a command line asks (``OwnQuestions``).
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf
from transformers import AutoTokenizer

from ktr.algorithm.weighting import signal_views
from ktr.analysis.attribution_summary import attribution_summary
from ktr.analysis.filmstrip import Strip
from ktr.analysis.token_page import Case, selection_settings, write_pages
from ktr.attribution.absent_media import refuse_absent_media
from ktr.console.progress_line import ProgressLine
from ktr.console.quiet import quiet_libraries
from ktr.data.datamodule import QuestionDataModule
from ktr.errors import InputError, MediaError, MissingData, PromptTooLong
from ktr.evaluation.attribution import attribution_records
from ktr.evaluation.given import GivenCompletion
from ktr.evaluation.parts import check_parts, reward_parts, weighting_parts
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.family import Policy
from ktr.record.json_file import write_object
from ktr.record.run_record import start_run
from ktr.record.token_records import Record, append_records
from ktr.types import Experience, PromptInputs, RolloutGroup


def run_attribution(config: DictConfig) -> list[Path]:
    """Answer up to ``num_questions`` questions, score the tokens; returns attribution.jsonl and ``output``, the page.

    There is no page where ``output`` is None.

    ``config.completion`` is scored in place of answers, and ``config.compare`` is a second policy that scores the same
    ones (compare.jsonl). Raises InputError, before a policy is loaded, where what is asked cannot be used.
    """
    quiet_libraries()
    seed_everything(config.seed, verbose=False)
    encoder = instantiate(config.encoder)
    given = None if config.completion is None else GivenCompletion.of(config.completion, encoder.tokenizer)
    data = instantiate(config.data, encode=EncoderPool(encoder).encode)
    weighting = instantiate(config.weighting)
    refuse_absent_media(signal_views(weighting), data.validation.questions)
    if config.media is not None:
        _encode_now(data, encoder, given)
    titles = _titles(Path(config.model.path), config.compare)
    _check_vocabularies(encoder.tokenizer, list(titles.values())[1:])
    run_dir = Path(config.paths.run_dir)
    start_run(run_dir, config, config.seed)
    data.setup("validate")  # as Lightning does in training: rows that are no questions are counted as skips too
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policies: dict[str, Policy] = {
        title: instantiate(config.model, path=str(path)).eval().to(device) for title, path in titles.items()
    }
    engine = instantiate(config.rollout, policy=next(iter(policies.values())))
    parts = ("scorer", "sampling", "reward", "advantage")
    scorer, sampling, reward, advantage = (instantiate(config[part]) for part in parts)
    checked = reward_parts(reward) | {"advantage": advantage} | weighting_parts(weighting)
    check_parts(checked, data.validation.questions[0])
    label = instantiate(config.label)
    records: dict[str, list[Record]] = {title: [] for title in titles}
    cases: list[Case] = []
    total = min(config.num_questions, len(data.validation.questions))
    with closing(engine), ProgressLine("attribute", total=total) as progress:
        for batch in data.val_dataloader():
            if len(cases) == total:
                break
            batch = batch[: total - len(cases)]
            if not batch:  # none of it could be read
                continue
            seeds = [prompt.question.seed(config.seed) for prompt in batch]
            if given is None:
                room = encoder.context_tokens - max(prompt.num_tokens for prompt in batch)
                fitted = replace(sampling, max_tokens=min(sampling.max_tokens, room))
                groups = engine.generate(batch, fitted, seeds)
            else:
                groups = [given.group(prompt, encoder.context_tokens) for prompt in batch]
            experiences = _judged(groups, reward, advantage)
            columns: list[dict[str, list[Record]]] = [{} for _ in groups]
            for title, policy in policies.items():
                scored = attribution_records(
                    policy, scorer, weighting, experiences, seeds, label=label, gradients=config.output is not None
                )
                if given is not None:  # no engine sampled it
                    scored = [record | {"engine_logps": record["logps"]} for record in scored]
                records[title] += scored
                for column, group, rest in zip(columns, groups, [iter(scored)] * len(groups), strict=True):
                    column[title] = list(islice(rest, len(group.completions)))
            for prompt, column in zip(batch, columns, strict=True):
                frames_per_patch = policies[next(iter(titles))].temporal_patch_size
                strips = tuple(
                    Strip(file, frames_FHWC, medium.seconds_per_patch / frames_per_patch)
                    for file, medium, frames_FHWC in zip(
                        prompt.question.media, prompt.media, encoder.frames(prompt), strict=True
                    )
                )
                cases.append(Case(column, strips, paired=len(column) > 1))
            progress.advance(len(batch), questions=len(batch))
    if not cases:
        raise MissingData(f"none of the {total} questions could be read: see {run_dir / 'skips.jsonl'}")
    for name, of_policy in zip(("attribution", "compare"), records.values()):
        append_records(run_dir / f"{name}.jsonl", of_policy)
    first = records[next(iter(titles))]
    write_object(run_dir / "summary.json", {"name": config.name, "attribution": attribution_summary(first)})
    if config.output is None:
        return [run_dir / "attribution.jsonl"]
    selection: Any = OmegaConf.to_container(config.selection)
    output = Path(config.output).expanduser()
    pages = write_pages(output, cases, selection_settings(selection), " and ".join(titles))
    return [run_dir / "attribution.jsonl", next(page for page in pages if page.suffix == output.suffix)]


def _encode_now(data: QuestionDataModule, encoder: Any, given: GivenCompletion | None) -> None:
    """Read the videos before a policy is loaded: one that can't be used stops the run, for it is what was asked."""
    encoded: dict[str, PromptInputs] = {}
    for question in data.validation.questions:
        try:
            encoded[question.id] = encoder.encode(question)
        except MediaError as error:
            raise InputError(f"media={error.path}: {error.reason}; give media=… another file") from error
        except PromptTooLong as error:
            named = ", ".join(str(file.path) for file in question.media)
            raise InputError(
                f"media={named}: the prompt has {error.num_tokens} tokens, the limit is {error.limit}; "
                "lower video.num_frames or video.max_pixels"
            ) from error
        if given is not None:
            given.group(encoded[question.id], encoder.context_tokens)
    data.encode = lambda question: encoded[question.id]


def _titles(model: Path, compare: str | None) -> dict[str, Path]:
    """The policies' folders by what to call them: the run's name, or the folder's."""
    folders = [model, *([] if compare is None else [Path(compare).expanduser()])]
    names = [folder.resolve().parent.name if folder.resolve().name == "policy" else folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(f"compare={compare} is model.path itself: give the folder of another policy")
    return dict(zip(names, folders, strict=True))


def _check_vocabularies(tokenizer: Any, folders: Sequence[Path]) -> None:
    for folder in folders:
        if AutoTokenizer.from_pretrained(folder).get_vocab() != tokenizer.get_vocab():
            raise InputError(
                f"compare={folder}: its vocabulary is not that of model.path, so that one completion has no common "
                "tokens; compare policies of one family"
            )


def _judged(groups: Sequence[RolloutGroup], reward: Any, advantage: Any) -> list[Experience]:
    """The groups with their rewards: none and 0 where the answer is not known."""
    rewarded = iter(reward.of_groups([group for group in groups if group.question.answer]))
    experiences = []
    for group in groups:
        zeros_G = torch.zeros(len(group.completions))
        parts, rewards_G = next(rewarded) if group.question.answer else ({}, zeros_G)
        experiences.append(Experience(group, parts, rewards_G, advantage(rewards_G) if parts else zeros_G))
    return experiences
