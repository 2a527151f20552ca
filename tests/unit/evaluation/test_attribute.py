"""Attribution of a user's own videos: the pages and records of a run, and what is refused before a policy is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from ktr.config.composing import compose
from ktr.data.image import read_image
from ktr.data.own_questions import OwnQuestions, lettered_options
from ktr.errors import InputError, MissingModel
from ktr.evaluation.attribute import run_attribution
from ktr.shapes.ground_truth import token_roles
from ktr.shapes.tiny_model import save_untrained
from ktr.shapes.video_file import write_video
from ktr.types import Completion, MediaFile, Medium, PromptInputs, RolloutGroup, VideoQuestion
from tests.tiny_policy import save_random_policy

TEXT = "<think> first red . </think> <answer> red </answer>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies, a clip, a picture, a file that is none, and rows."""
    folder = tmp_path_factory.mktemp("own")
    save_random_policy(folder / "one", seed=0)
    save_random_policy(folder / "two", seed=1)
    frames = torch.randint(0, 256, (12, 56, 56, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_video(frames.numpy(), folder / "clip.mp4", 4.0)
    Image.new("RGB", (64, 48), "red").save(folder / "picture.png")
    (folder / "text.mp4").write_text("no video")
    row = {"problem": "what is <b>first</b> ?", "problem_type": "free-form", "solution": "<answer>red</answer>"}
    rows = [row | {"path": "clip.mp4"}, row | {"path": "text.mp4"}, row | {"path": "picture.png", "data_type": "image"}]
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def attribute(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    def run(*overrides: str) -> tuple[Path, Path]:
        small = ["model.path=one", "sampling.max_tokens=6", "sampling.num_completions=2", f"paths.runs={tmp_path}"]
        small += ["video.max_pixels=3136", "video.min_pixels=3136", "video.num_frames=4"]
        config = compose("attribute_own", [*small, *overrides])
        OmegaConf.resolve(config)
        return run_attribution(config)

    return run


def records_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fields(row: Any) -> dict[str, Any]:
    return row | {"problem": row["ask"]}


def test_rows_in_a_format_of_the_user_s_own(attribute, folder: Path):
    row = {"ask": "what ?", "problem_type": "free-form", "solution": "red", "path": "clip.mp4"}
    (folder / "asked.json").write_text(json.dumps([row, {"path": "clip.mp4"}]))
    records, _ = attribute("rows=asked.json", f"format={__name__}.fields")
    assert {record["problem"] for record in records_of(records)} == {"what ?"}
    (skip,) = records_of(records.parent / "skips.jsonl")
    assert skip["kind"] == "FormatFault" and f"{__name__}.fields raised KeyError" in skip["reason"]


def test_a_clip_and_a_question_give_a_page_and_records(attribute):
    records_file, page = attribute("media=clip.mp4", "question='why, (so) ?'")
    records = records_of(records_file)
    assert page.name == "page.html" and len(records) == 2 and not any("roles" in record for record in records)
    for record in records:
        lists = [record[key] for key in ("tokens", "logps", "entropies", "ranks", "gradient_norms")]
        lists += [*record["view_logps"].values(), *record["scores"].values()]
        assert set(record["view_logps"]) == {"masked", "shuffled"} and len({len(values) for values in lists}) == 1
        shift = [abs(a - b) for a, b in zip(record["logps"], record["view_logps"]["masked"])]
        assert record["scores"]["visual"] == pytest.approx(shift, abs=2e-3) and min(record["ranks"]) >= 1
    data = json.loads(page.with_suffix(".json").read_text())
    (case,) = data["cases"]
    assert (
        case["problem"] == "why, (so) ?"
        and len(case["strips"][0]["frame_seconds"]) == 4
        and data["selection"]["ratio"] == 0.2
    )
    assert case["columns"][0]["completions"][0]["scores"] == records[0]["scores"]
    text = page.read_text()
    assert text.count("<img ") == text.count('<img src="data:image/webp;base64,') == 4 and "why, (so) ?" in text


@pytest.mark.parametrize("weighting", ["batch_entropy", "group_divergence", "random_tokens"])
def test_weightings_that_look_further_than_one_completion(attribute, weighting: str):
    (records_file,) = attribute(
        "media=clip.mp4", "question='why ?'", f"weighting={weighting}", "attribution=none", "output=null"
    )
    assert all(max(record["weights"]) > 0 for record in records_of(records_file))


def test_a_completion_is_scored_as_it_is_given_by_both_policies(attribute):
    records_file, page = attribute(
        "media=clip.mp4", "question=why", f"completion='{TEXT}'", "compare=two", "output=compared.json"
    )
    (one,), (two,) = records_of(records_file), records_of(records_file.with_name("compare.jsonl"))
    assert page == Path("compared.json") and page.with_suffix(".html").exists()
    assert one["tokens"] == two["tokens"] == [*TEXT.split(), "<|im_end|>"] and one["finish_reason"] == "stop"
    assert one["logps"] != two["logps"] and one["engine_logps"] == one["logps"]
    case = json.loads(page.read_text())["cases"][0]
    assert case["paired"] and [column["title"] for column in case["columns"]] == ["one", "two"]


def test_rows_and_several_videos_give_a_page_each_and_an_index(attribute, folder: Path):
    records_file, index = attribute("rows=rows.json", "output=rows.html")
    assert len(records_of(records_file)) == 4  # the second row's file can't be read
    pages = json.loads(index.with_suffix(".json").read_text())["pages"]
    assert pages == ["rows/001-rows-0.html", "rows/002-rows-2.html"] and all((folder / page).exists() for page in pages)
    shown = index.read_text()
    assert all(f'href="{page}"' in shown for page in pages) and "&lt;b&gt;first" in shown and "<b>first" not in shown
    assert "reward" in shown and "<b>first" not in (folder / pages[0]).read_text()
    _, two = attribute("media=[clip.mp4,picture.png]", "question=why", "output=two.html")
    assert json.loads(two.with_suffix(".json").read_text())["pages"] == [
        "two/001-1-clip.html",
        "two/002-2-picture.html",
    ]
    assert (folder / "two/002-2-picture.html").read_text().count("<img ") == 1


@pytest.mark.parametrize(
    "asked",
    [
        ["media=[clip.mp4,picture.png,clip.mp4]", "question='is <video> like <video> or <image> ?'"],
        ["media=[[clip.mp4,clip.mp4,picture.png]]", "question='what color ?'"],
        ["rows=several.json"],
    ],
)
def test_one_question_about_several_media_has_a_strip_of_each_in_the_prompts_order(attribute, folder: Path, asked):
    row = {"problem": "which ?", "problem_type": "free-form", "solution": "red"}
    paths = ["clip.mp4", "clip.mp4", {"path": "picture.png", "type": "image"}]
    (folder / "several.json").write_text(json.dumps([row | {"path": paths}, row | {"path": ["clip.mp4", "text.mp4"]}]))
    records_file, page = attribute(*asked, "output=together.html")
    names, kinds = ["clip.mp4", "clip.mp4", "picture.png"], ["video", "video", "image"]
    for record in records_of(records_file):
        assert [Path(path).name for path in record["media"]] == names and record["data_type"] == kinds
    (case,) = json.loads(page.with_suffix(".json").read_text())["cases"]
    assert [(Path(s["media"]).name, s["data_type"], len(s["frame_seconds"])) for s in case["strips"]] == [
        ("clip.mp4", "video", 4), ("clip.mp4", "video", 4), ("picture.png", "image", 1),
    ]  # fmt: skip
    text = page.read_text()
    assert text.count("<img ") == 9 and "video 2: clip.mp4" in text and "image 3: picture.png" in text
    if "rows" in asked[0]:
        (skip,) = records_of(records_file.with_name("skips.jsonl"))
        assert skip["kind"] == "CorruptMedia" and skip["media"].endswith("text.mp4")


def test_a_list_is_about_each_where_the_question_places_one_at_most(folder: Path):
    clip, picture = str(folder / "clip.mp4"), str(folder / "picture.png")
    assert [len(q.media) for q in OwnQuestions(media=[clip, clip], question="in <video> ?").questions] == [1, 1]
    assert [len(q.media) for q in OwnQuestions(media=[clip, [clip, picture]], question="why ?").questions] == [1, 2]


@pytest.mark.parametrize(
    ("media", "question"),
    [
        ([["clip.mp4", "clip.mp4"]], "in <video> ?"),
        (["clip.mp4", "clip.mp4", "picture.png"], "is <video> like <video> ?"),
        (["clip.mp4", "clip.mp4"], "is <video> like <image> ?"),
        (["clip.mp4", "picture.png"], "in <video> ?"),
        ("clip.mp4", "is <video> like <video> ?"),
        (["clip.mp4", ["clip.mp4", "picture.png"]], "is <video> like <image> ?"),
    ],
)
def test_more_or_fewer_markers_than_media_are_one_sentence(media, question: str, folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"media=.*its text holds \d <(video|image)>, and \d .*; correct the question"):
        OwnQuestions(media=media, question=question)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["media=[[clip.mp4,text.mp4]]"], "media=[^ ]*text.mp4: .*; give media=… another file"),
        (["media=text.mp4"], "text.mp4: .*; give media=… another file"),
        (["media=clip.mp4", "encoder.max_prompt_tokens=8"], "lower video.num_frames or video.max_pixels"),
        (["media=clip.mp4", "completion='red <|im_end|>'"], r"holds the special token <\|im_end\|>"),
        (["media=clip.mp4", f"completion='{'red ' * 1020}'"], "the model's context is 1024; shorten the completion"),
        (["media=clip.mp4", "compare=one"], "compare=one is model.path itself"),
        (["media=clip.mp4", "compare=${oc.env:KTR_OTHER}"], "its vocabulary is not that of model.path"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_policy_is_loaded(
    attribute, overrides: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_untrained(tmp_path / "other")
    tokenizer = json.loads((tmp_path / "other/tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["another"] = len(tokenizer["model"]["vocab"])
    (tmp_path / "other/tokenizer.json").write_text(json.dumps(tokenizer))
    monkeypatch.setenv("KTR_OTHER", str(tmp_path / "other"))
    with pytest.raises(InputError, match=said):
        attribute("question=why", "model._target_=builtins.print", *overrides)


def test_a_signal_of_media_that_are_not_asked_about_is_refused(attribute):
    with pytest.raises(InputError, match=r"signals\.visual: media=\[1\] names nothing that it can change"):
        attribute("media=clip.mp4", "question=why", "attribution.signals.visual.media=[1]")


def test_a_folder_without_a_chat_template_is_named(attribute, folder: Path, tmp_path: Path):
    for file in (folder / "one").iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(Exception, match="its tokenizer has no chat template") as caught:
        attribute("media=clip.mp4", "question=why", f"model.path={tmp_path}")
    assert isinstance(caught.value.__cause__, MissingModel)


@pytest.mark.parametrize(
    ("media", "question"),
    [("song.WAV", "why ?"), ([["clip.mp4", "song.WAV"]], "why ?"), ("clip.mp4", "what does <audio> say ?")],
)
def test_sound_stays_out_and_says_so(media, question: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    Path("song.WAV").write_bytes(b"x")
    with pytest.raises(InputError, match="sound stays out"):
        OwnQuestions(media=media, question=question)


@pytest.mark.parametrize(
    ("options", "lettered"),
    [(["red", "blue"], ["A. red", "B. blue"]), (["B. red", "A. blue"], ["B. red", "A. blue"]), ([], [])],
)
def test_options_get_letters_where_they_have_none(options: list[str], lettered: list[str]):
    assert lettered_options(options) == lettered


@pytest.mark.parametrize("options", [["red"], ["A. red", "blue"], ["A. red", "A. blue"], [*map(str, range(27))]])
def test_options_that_cannot_be_told_apart_are_refused(options: list[str]):
    with pytest.raises(InputError, match="options="):
        lettered_options(options)


@pytest.mark.parametrize("text", [" ", "what is <|video_pad|> ?"])
def test_a_question_that_cannot_be_asked_is_refused(text: str, folder: Path):
    with pytest.raises(InputError, match="question"):
        OwnQuestions(media=str(folder / "clip.mp4"), question=text)


@pytest.mark.parametrize(("name", "data_type", "count"), [("clip.mp4", "video", 4), ("picture.png", "image", 1)])
def test_frames_are_those_that_the_policy_reads(name: str, data_type: str, count: int, folder: Path):
    config = compose("attribute_own", [f"model.path={folder / 'one'}", "video.num_frames=4", "video.min_pixels=3136"])
    encoder = instantiate(config.encoder)
    asked = OwnQuestions(media=str(folder / name), question="why").questions[0]
    assert asked.media[0].kind == data_type
    (frames_FHWC,) = encoder.frames(encoder.encode(asked))
    source = read_image(folder / name)[None] if count == 1 else encoder.reader.read(folder / name).frames_FHWC
    assert len(frames_FHWC) == count and frames_FHWC.shape[1] % 28 == 0
    if frames_FHWC.shape == source.shape:  # nothing was resized
        assert (frames_FHWC == source).all()
    assert abs(frames_FHWC.mean((1, 2)) - source.mean((1, 2))).max() < 2


def test_the_world_s_answers_keep_their_ground_truth(tmp_path: Path):
    small = [
        "num_questions=2",
        "data.validation.num_questions=3",
        "sampling.num_completions=2",
        "sampling.max_tokens=40",
    ]
    config = compose("attribute", [*small, f"paths.runs={tmp_path}"])
    OmegaConf.resolve(config)
    records_file, index = run_attribution(config)
    records = records_of(records_file)
    assert len(records) == 4 and all(len(record["roles"]) == len(record["tokens"]) for record in records)
    assert "visual_auroc" in json.loads((records_file.parent / "summary.json").read_text())["attribution"]
    pages = json.loads(index.with_suffix(".json").read_text())["pages"]
    assert len(pages) == 2 and "truth: about looks" in (index.parent / pages[0]).read_text()


def test_truth_is_known_of_whole_words_of_the_world_only():
    def group(extra: dict, num_tokens: int) -> RolloutGroup:
        question = VideoQuestion(
            "q", "what color ?", "free-form", "red", (MediaFile(Path("v")),), category="color", extra=extra
        )
        prompt = PromptInputs(
            question, torch.ones(1).long(), torch.zeros(3, 1).long(), torch.zeros(1, 1), (Medium("video", (1, 1, 1)),)
        )
        completion = Completion(torch.arange(num_tokens), torch.zeros(num_tokens), "<answer> red </answer>", "stop", 0)
        return RolloutGroup(prompt, (completion,))

    assert token_roles(group({"target": "circle"}, 4)) == [["nothing", "appearance", "nothing", "nothing"]]
    assert token_roles(group({"target": "circle"}, 6)) is None and token_roles(group({}, 4)) is None
