"""Every family reads what its own processor of transformers writes, and places it where its own rule says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

from ktr.errors import ConfigError
from ktr.policy.encoder import Encoder
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.types import PromptInputs, VideoQuestion
from tests.tiny_families import CLASSES, FAMILIES, encoder_of, frame_size, question_about, save_family

MEDIA = [("6x64x96",), ("1x70x64",), ("2x64x64",), ("4x64x96", "1x64x64", "6x96x64")]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(family, tmp_path_factory.mktemp("families") / family)


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(folder).eval()


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return encoder_of(folder)


def processed(folder: Path, encoder: Encoder, question: VideoQuestion) -> Any:
    """What transformers' own processor makes of the same frames, with the metadata of those that were sampled."""
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(encoder.template.messages(question), add_generation_prompt=True)
    videos, metadata, images, sizes = [], [], [], []
    for file in question.media:
        if file.kind == "image":
            images.append(torch.from_numpy(encoder.reader.read_image(file.path)).permute(2, 0, 1))
            continue
        video = encoder.reader.read(file.path)
        videos.append(torch.from_numpy(video.frames_FHWC).permute(0, 3, 1, 2))
        sizes.append(len(video.frame_indices))
        metadata.append(
            VideoMetadata(
                total_num_frames=video.total_num_frames, fps=video.fps, frames_indices=list(video.frame_indices)
            )
        )
    bounds = {"shortest_edge": 64 * 64, "longest_edge": 96 * 96}
    # Qwen3-VL's bounds are of all frames together: with one number of frames for all they can be said to it.
    total = sizes[0] if sizes and "Qwen3" in type(processor).__name__ else 1
    return processor(
        text=[text],
        images=images or None,
        videos=videos or None,
        images_kwargs={"size": bounds},
        videos_kwargs={
            "size": {name: total * bound for name, bound in bounds.items()},
            "video_metadata": metadata,
            "do_sample_frames": False,
            "cap_pixels_per_frame": False,
        },
        return_tensors="pt",
    )


@pytest.mark.parametrize("names", [*MEDIA[:3], ("6x64x96", "1x64x64", "6x96x64")], ids=str)
def test_a_prompt_is_what_the_familys_own_processor_writes(folder: Path, encoder: Encoder, names: tuple[str, ...]):
    question = question_about(*names)
    prompt, theirs = encoder.encode(question), processed(folder, encoder, question)
    assert prompt.input_ids_P.tolist() == theirs["input_ids"][0].tolist()
    for kind, pixels, grids in (
        ("video", "pixel_values_videos", "video_grid_thw"),
        ("image", "pixel_values", "image_grid_thw"),
    ):
        of_kind = [i for i, medium in enumerate(prompt.media) if medium.kind == kind]
        if of_kind:
            ours = prompt.by_medium(prompt.pixels_NC)
            assert torch.equal(torch.cat([ours[i] for i in of_kind]), theirs[pixels])
            assert [list(prompt.media[i].grid_thw) for i in of_kind] == theirs[grids].tolist()


def test_seconds_are_written_by_qwen3_alone(family: str, encoder: Encoder):
    text = encoder.tokenizer.decode(encoder.encode(question_about("4x64x64")).input_ids_P)
    # frames 0, 7, 14, 21 at 3 a second: patches at the means of 0 and 7/3, of 14/3 and 7
    written = [f"< {whole} . {tenths} seconds >" in text for whole, tenths in ((1, 2), (5, 8))]
    assert written == [family.startswith("qwen3")] * 2


def their_positions(policy: Policy, prompt: PromptInputs) -> torch.Tensor:
    """transformers' get_rope_index."""
    config, ids = policy.model.config, prompt.input_ids_P[None]
    types = torch.zeros_like(ids)
    types[ids == config.image_token_id], types[ids == config.video_token_id] = 1, 2
    of_kind = {kind: [medium for medium in prompt.media if medium.kind == kind] for kind in ("image", "video")}
    grids = {kind: torch.tensor([m.grid_thw for m in media]) if media else None for kind, media in of_kind.items()}
    seconds = {}
    if policy.time_in == "positions":
        seconds = {"second_per_grid_ts": torch.tensor([medium.seconds_per_patch for medium in of_kind["video"]])}
    return policy.model.model.get_rope_index(
        ids, types, image_grid_thw=grids["image"], video_grid_thw=grids["video"], **seconds
    )[0][:, 0]


@pytest.mark.parametrize("names", MEDIA, ids=str)
def test_positions_are_transformers_where_no_block_goes_on_in_time(
    family: str, policy: Policy, encoder: Encoder, names: tuple[str, ...]
):
    """Where one does, transformers goes on behind its sides, and the original rule behind its last moment."""
    prompt = encoder.encode(question_about(*names))
    theirs = their_positions(policy, prompt)
    if family.startswith("qwen3"):
        assert torch.equal(prompt.positions_3P, theirs)
        return
    end = int(torch.where(policy.is_visual(prompt.input_ids_P))[0][prompt.media[0].num_patches // 4 - 1]) + 1
    assert torch.equal(prompt.positions_3P[:, :end], theirs[:, :end])
    goes_on = [
        medium.grid_thw[0] > max(medium.grid_thw[1:]) // 2 or policy.time_in == "positions" for medium in prompt.media
    ]
    assert prompt.positions_3P[:, end].tolist() == [int(prompt.positions_3P[:, :end].max()) + 1] * 3
    if not any(goes_on):
        assert torch.equal(prompt.positions_3P, theirs)


def test_a_folder_says_which_class_reads_it(family: str, policy: Policy):
    assert type(policy.model) is getattr(transformers, CLASSES[family][1])
    assert type(policy).__module__ == f"ktr.policy.{family}.policy"


def test_all_weights_are_of_a_part_that_can_be_frozen(folder: Path, policy: Policy):
    frozen = load_policy(folder, freeze=tuple(policy.parts()))
    assert not [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("part", ["vision", "merger"])
def test_freezing_vision_leaves_the_mergers_and_the_other_way_round(folder: Path, part: str):
    policy = load_policy(folder, freeze=(part,))
    frozen = {name for name, parameter in policy.named_parameters() if not parameter.requires_grad}
    assert frozen and all(("merger" in name) == (part == "merger") and ".visual." in name for name in frozen)
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad and "visual" in name}
    assert all(("merger" in name) != (part == "merger") for name in trained)


def test_frames_come_back_from_the_patches(family: str, encoder: Encoder):
    side = frame_size(family)
    name = f"4x{side}x{side}" if side**2 >= 64 * 64 else "4x84x84"
    prompt = encoder.encode(question_about(name))
    (frames,) = encoder.frames(prompt)
    assert abs(frames.astype(int) - encoder.reader.read(Path(name)).frames_FHWC.astype(int)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (90, 160), (480, 480), (500, 700)])
@pytest.mark.parametrize("num_frames", [2, 16])
def test_bounds_are_of_one_frame_in_every_family(encoder: Encoder, height: int, width: int, num_frames: int):
    prompt = encoder.encode(question_about(f"{num_frames}x{height}x{width}"))
    t, h, w = prompt.media[0].grid_thw
    assert t == num_frames // 2 and 64 * 64 <= h * w * encoder._videos.patch_size**2 <= 96 * 96


def test_saved_weights_come_back_to_the_bit(folder: Path, policy: Policy, tmp_path: Path):
    policy.save(tmp_path)
    again = load_policy(tmp_path)
    pairs = zip(policy.named_weights(), again.named_weights(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


@pytest.mark.parametrize("key", ["target_modules", "modules_to_save"])
def test_layers_that_a_family_does_not_have_are_named_and_not_left_out(family: str, folder: Path, key: str):
    names = {"target_modules": ["q_proj"], key: ["q_proj", "down_proj", "gate_up"]}
    reason = "down_proj are fused experts" if family == "qwen3_vl_moe" else "gate_up are nowhere in this model"
    with pytest.raises(ConfigError, match=f"{key}: layers called {reason}"):
        load_policy(folder, lora=names)


def test_all_linear_adapts_what_is_linear(family: str, folder: Path):
    policy = load_policy(folder, lora={"r": 2, "target_modules": "all-linear"})
    adapted = {name for name, parameter in policy.named_parameters() if "lora_A" in name}
    assert any(".visual.merger." in name for name in adapted) and any("q_proj" in name for name in adapted)
    assert any(".mlp.down_proj." in name for name in adapted) is (family != "qwen3_vl_moe")


def test_a_saved_mixture_of_experts_lies_as_published_ones_do(family: str, policy: Policy, tmp_path: Path):
    """(expert, in, out): what vLLM reads, and transformers reads too."""
    if family != "qwen3_vl_moe":
        pytest.skip("no experts")
    policy.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert tuple(saved["model.language_model.layers.0.mlp.experts.down_proj"].shape) == (4, 128, 64)


def test_layers_with_a_sliding_window_are_refused(family: str, folder: Path, tmp_path: Path):
    if family.startswith("qwen3"):
        pytest.skip("its layers have none")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"] |= {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8}
    (tmp_path / "config.json").write_text(json.dumps(config | {"use_sliding_window": True}))
    with pytest.raises(ConfigError, match="sliding window, .* set use_sliding_window to false there"):
        load_policy(tmp_path)
