"""Models that vLLM's own OpenAI server serves, asked as endpoints: the policy's answers, and those of another line."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
)

from ktr.config.composing import compose
from ktr.evaluation.benchmark_run import ask_benchmark
from ktr.rollout.servers.client import ServerClient
from ktr.rollout.servers.process import ServerProcess, free_port
from ktr.rollout.vllm.setup import engine_environment
from ktr.shapes.tokenizer import END_OF_TURN, IMAGE_PAD, VIDEO_PAD, build_tokenizer

KEY = "a-key-of-the-test"
NUM_ITEMS = 24
FLAGS = [
    *("--dtype", "float32", "--max-model-len", "1024", "--enforce-eager", "--kv-cache-memory-bytes", str(2**28)),
    *("--generation-config", "vllm", "--served-model-name", "served", "--trust-request-mm-kwargs"),
    # Without a GPU vLLM cannot cut a prompt whose request has a seed.
    *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096"),
]
Lines = dict[str, dict[str, Any]]
Ask = Callable[..., Lines]


@contextmanager
def served(folder: Path | str, log_path: Path, module: str = "ktr.rollout.vllm.serve") -> Iterator[str]:
    """The address of a server of a model's folder, ``vllm serve`` itself."""
    port = str(free_port("127.0.0.1"))
    command = [
        sys.executable,
        "-m",
        module,
        str(folder),
        *FLAGS,
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    environment = os.environ | engine_environment() | {"VLLM_API_KEY": KEY}
    process = ServerProcess(command, environment, log_path)
    client = ServerClient("served", f"http://127.0.0.1:{port}", KEY, 60.0, "see its log")
    try:
        while not client.is_healthy():
            assert process.exit_code is None, process.reason()
            threading.Event().wait(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        client.close()
        process.close()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Asks the embedded world; the lines by item."""
    runs = tmp_path_factory.mktemp("runs")

    def lines(name: str, *given: str) -> Lines:
        few = ["benchmark=shapes", f"benchmark.limit={NUM_ITEMS}", f"paths.runs={runs}", f"name={name}"]
        config = compose("evaluate", [*few, *given])
        OmegaConf.resolve(config)
        path = Path(ask_benchmark(config).splitlines()[-1]).with_name("items.jsonl")
        return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}

    return lines


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KTR_VLLM_API_KEY", KEY)


@pytest.fixture(scope="module")
def cold_start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    folder = compose("evaluate").model.path
    with served(folder, tmp_path_factory.mktemp("logs") / "cold_start.log") as url:
        yield ["endpoint=vllm", "endpoint.model=served", f"endpoint.base_url={url}"]


@pytest.mark.parametrize("pixels", [3136, 7056])  # frames of the size that the folder's processor makes, and of another
def test_a_served_policy_gives_the_answers_of_the_policy(ask: Ask, cold_start: list[str], pixels: int):
    bounds = [f"video.min_pixels={pixels}", f"video.max_pixels={pixels}"]
    own, other = ask(f"policy-{pixels}", *bounds), ask(f"served-{pixels}", *cold_start, *bounds)
    same = (
        "prediction",
        "outcome",
        "score",
        "num_frames",
        "prompt_tokens",
        "completion_tokens",
        "prompt",
        "finish_reason",
    )
    assert len(own) == NUM_ITEMS and own.keys() == other.keys()
    assert [{key: line[key] for key in same} for line in own.values()] == [
        {key: line[key] for key in same} for line in other.values()
    ]
    assert [line["output"].strip() for line in own.values()] == [line["output"].strip() for line in other.values()]


def test_several_samples_are_the_same_in_one_request_and_in_several(ask: Ask, cold_start: list[str]):
    together = ask("vote", *cold_start, "decoding=vote")
    apart = ask("vote-apart", *cold_start, "decoding=vote", "endpoint.n_per_request=3")
    outputs = [[line["rounds"][0]["outputs"] for line in lines.values()] for lines in (together, apart)]
    assert outputs[0] == outputs[1] and {len(replies) for replies in outputs[0]} == {8}
    assert any(len(set(replies)) > 1 for replies in outputs[0])


def test_a_prompt_that_the_server_refuses_fails_with_its_words(ask: Ask, cold_start: list[str]):
    large = ["video.min_pixels=200704", "video.max_pixels=200704"]
    lines = ask("too_long", *cold_start, *large, "benchmark.limit=2")
    assert {line["outcome"] for line in lines.values()} == {"failed"}
    assert all("1024" in line["reason"] for line in lines.values()), lines


def save_llava_onevision(folder: Path) -> Path:
    """A tiny random LLaVA-OneVision of transformers' own classes, which reads the words of the embedded world."""
    words = build_tokenizer()
    vocabulary, size = words.get_vocab(), {"height": 56, "width": 56}
    grids = [[56, 56], [56, 112], [112, 56]]
    vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False}
    text = {"model_type": "qwen2", "vocab_size": len(vocabulary), "hidden_size": 64, "intermediate_size": 128}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": False}
    text |= {"max_position_embeddings": 2048, "eos_token_id": vocabulary[END_OF_TURN], "bos_token_id": None}
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=vocabulary[IMAGE_PAD],
        video_token_index=vocabulary[VIDEO_PAD],
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    # Published folders have, and vLLM reads, a name that this transformers leaves out.
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        tokenizer=words,
        video_processor=LlavaOnevisionVideoProcessor(size=size, do_sample_frames=False),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        image_token=IMAGE_PAD,
        video_token=VIDEO_PAD,
        chat_template=words.chat_template,
    ).save_pretrained(folder)
    return folder


def test_a_model_of_another_line_replies_to_every_item_about_pictures_and_about_videos(ask: Ask, tmp_path: Path):
    folder, module = save_llava_onevision(tmp_path / "model"), "tests.vllm.serve_llava_onevision"
    with served(folder, tmp_path / "llava.log", module) as url:
        chosen = ["endpoint=vllm", "endpoint.model=served", f"endpoint.base_url={url}", "endpoint.extra=null"]
        for frames_as in ("images", "video"):
            lines = ask(f"llava-{frames_as}", *chosen, f"endpoint.frames_as={frames_as}")
            assert len(lines) == NUM_ITEMS and {tuple(line["num_frames"]) for line in lines.values()} == {(16,)}
            assert all(line["output"] is not None and line["completion_tokens"] > 0 for line in lines.values())
