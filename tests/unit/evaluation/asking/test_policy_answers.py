"""A policy is asked through its engine: the answers of any batching, with every fault an outcome of its own item."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import ConfigError
from ktr.evaluation.asking.ask import Answered, Ask
from ktr.evaluation.asking.policy import PolicyAnswers
from ktr.evaluation.rules.outcome import Outcome
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.shapes.video_file import write_video
from ktr.types import WHOLE, Clip, MediaFile, PromptInputs, VideoQuestion
from tests.unit.evaluation.asking.conftest import item

SAMPLED = SamplingParams(2, 6, temperature=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    frames = np.random.default_rng(0).integers(0, 256, (6, 24, 56, 56, 3), dtype=np.uint8)
    for number in range(6):
        write_video(frames[number], folder / f"{number}.mp4", 2.0)
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


@pytest.fixture
def answers(policy: QwenVLPolicy, policy_folder: Path) -> PolicyAnswers:
    reader = VideoReader(VideoSettings(num_frames=8, max_pixels=3136, min_pixels=3136))
    encoder = PromptEncoder(policy_folder, PromptTemplate("", {}), reader, max_prompt_tokens=120)
    return PolicyAnswers(policy, TransformersEngine(policy), EncoderPool(encoder), batch_size=3)


def ask(path: Path, num_frames: int = 8, sampling: SamplingParams = SAMPLED, clip: Clip = WHOLE) -> Ask:
    question = VideoQuestion(path.stem, "what color ?", "free-form", "red", (MediaFile(path, clip=clip),))
    return Ask(item(0), question, num_frames, sampling, seed=len(path.stem))


def answered(answers: PolicyAnswers, asks: Sequence[Ask]) -> dict[str, Answered]:
    waiting = list(asks)
    found = answers.answers(lambda: waiting.pop(0) if waiting else None)
    return {f"{each.ask.question.id}-{each.ask.num_frames}": each for each in found}


def texts(found: dict[str, Answered]) -> dict[str, list[str]]:
    return {name: [reply.text for reply in each.replies] for name, each in found.items()}


def test_answers_are_the_same_in_any_batch(answers: PolicyAnswers, folder: Path):
    asks = [ask(folder / f"{number}.mp4") for number in range(6)]
    together, alone = answered(answers, asks), [answered(answers, [one]) for one in asks[:3]]
    assert len(together) == 6 and all(len(each.replies) == 2 for each in together.values())
    for one in alone:
        assert texts(one).items() <= texts(together).items()
    first = together["0-8"]
    assert first.num_frames == (8,) and first.prompt_tokens > 16 and first.completion_tokens >= 2


def test_each_ask_has_its_own_frames_clip_and_sampling(answers: PolicyAnswers, folder: Path):
    path = folder / "0.mp4"
    longer = replace(SAMPLED, num_completions=1, max_tokens=3)
    asks = [ask(path), ask(path, 16), ask(path, 4, longer), ask(path, 12, clip=Clip(2.0, 5.0))]
    found = answered(answers, asks)
    assert {name: each.num_frames for name, each in found.items()} == {
        "0-8": (8,),
        "0-16": (16,),
        "0-4": (4,),
        "0-12": (8,),
    }
    assert len(found["0-4"].replies) == 1 and found["0-4"].completion_tokens <= 3


def test_a_fault_is_an_outcome_of_its_item_and_the_others_go_on(answers: PolicyAnswers, folder: Path):
    special = replace(ask(folder / "1.mp4"), question=replace(ask(folder / "1.mp4").question, problem="<|im_end|> ?"))
    long = ask(folder / "2.mp4", 24)
    long = replace(long, question=replace(long.question, problem="what color ? " * 40))
    found = answered(
        answers, [ask(folder / "broken.mp4"), ask(folder / "gone.mp4"), special, long, ask(folder / "0.mp4")]
    )
    outcomes = {name: each.outcome for name, each in found.items()}
    assert outcomes == {
        "broken-8": Outcome.MEDIA_MISSING, "gone-8": Outcome.MEDIA_MISSING, "1-8": Outcome.FAILED,
        "2-24": Outcome.FAILED, "0-8": None,
    }  # fmt: skip
    assert "special token <|im_end|>" in found["1-8"].reason and "limit is 120" in found["2-24"].reason


def test_a_slow_video_does_not_hold_the_others_up(
    answers: PolicyAnswers, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    others_done, encode = threading.Event(), PolicyAnswers._encode

    def slowly(self: PolicyAnswers, one: Ask) -> PromptInputs | Answered:
        if one.question.id == "0":
            assert others_done.wait(60), "the others wait for this one"
        return encode(self, one)

    monkeypatch.setattr(PolicyAnswers, "_encode", slowly)
    monkeypatch.setattr(PolicyAnswers, "SECONDS_FOR_A_FULL_BATCH", 0.01)
    waiting, order = [ask(folder / f"{number}.mp4") for number in range(6)], []
    for each in answers.answers(lambda: waiting.pop(0) if waiting else None):
        order.append(each.ask.question.id)
        if len(order) == 5:
            others_done.set()
    assert order[-1] == "0" and sorted(order) == [*"012345"]


def test_a_new_ask_may_come_of_an_answer(answers: PolicyAnswers, folder: Path):
    waiting, found = [ask(folder / "0.mp4")], []
    for each in answers.answers(lambda: waiting.pop(0) if waiting else None):
        found.append(each.num_frames)
        if len(found) < 3:
            waiting.append(ask(folder / "0.mp4", 8 + 4 * len(found)))
    assert found == [(8,), (12,), (16,)]


@pytest.mark.parametrize("key", ["batch_size", "num_decoders"])
def test_nothing_at_a_time_is_refused(key: str, answers: PolicyAnswers):
    with pytest.raises(ConfigError, match=f"{key}=0.*: both are 1 or more"):
        PolicyAnswers(answers.policy, answers.engine, answers.encoders, **{key: 0})
