"""A user's own video and question on attribute's command line: any text is taken as it stands, gaps are refused."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException

from ktr.config.composing import compose
from ktr.config.endings import ending_of
from ktr.config.free_text import literal
from ktr.config.own_input import check_own_input
from ktr.errors import InputError, KtrError, MissingData, MissingModel
from tests.programs import ktr


@pytest.mark.parametrize(
    "text",
    [
        *["What, (a) or: b?", "it's", "a\\", "a\\'b", "\\\\", "two\nlines", "x=y", "'q'", '"q"', "{a: 1}", "1", "true"],
        *["[so] it is", "[x]", "$5 {", "é ↵", "<think> red </think>", "\t x", "null ", "a\\\n"],
    ],
)
def test_any_text_reaches_the_config_as_it_is_written(text: str):
    (argument,) = literal([f"question={text}"], ["question"], lists=["media"])
    assert OverridesParser.create().parse_overrides([argument])[0].value() == text


def test_lists_of_videos_null_and_other_keys_are_left_to_hydra():
    arguments = ["media=[a.mp4,b.mp4]", "question=null", "seed=0,1", "question="]
    assert literal(arguments, ["media", "question"], lists=["media"]) == arguments


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"question": "why"}, "give media=clip.mp4 as well"),
        ({"options": ["red", "blue"]}, "give media=clip.mp4 as well"),
        ({"rows": "rows.json", "question": "why"}, "rows have their own"),
        ({"media": "clip.mp4"}, r"media=clip\.mp4 has no question"),
        ({"media": ["clip.mp4", "b.mp4"], "question": "  "}, r"media=\[clip\.mp4,b\.mp4\] has no question"),
        ({"media": "clip.mp4", "question": "why", "rows": "rows.json"}, "give one of them"),
        ({"media": "none.mp4", "question": "why"}, r"media=none\.mp4: there is no such file"),
        ({"media": ["clip.mp4", "none.mp4"], "question": "why"}, r"media=none\.mp4: there is no such file"),
        ({"rows": "none.json"}, r"rows=none\.json: there is no such file"),
        ({"media": "clip.mp4", "question": "why", "media_root": "."}, "media_root is the folder of the videos of rows"),
        ({"media": "clip.mp4", "question": "why", "format": "mine.rows.question"}, "format is how rows=… are read"),
        ({"media": "clip.mp4", "question": "why", "completion": " \n"}, "completion is empty"),
        ({"output": "page.pdf"}, r"output=page\.pdf: the page is an \.html file"),
        ({"output": "clip.mp4/page.html"}, r"nothing can be written in .*clip\.mp4; give another path"),
    ],
)
def test_a_gap_or_a_wrong_value_is_named(given: dict, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    asked = {key: None for key in ("media", "rows", "question", "options", "media_root", "completion", "format")}
    check_own_input(asked | {"output": "page.html"} | ({} if "media" in given else {"rows": None}))
    with pytest.raises(InputError, match=said):
        check_own_input(asked | {"output": "page.html"} | given)


def test_a_question_without_a_video_ends_with_one_sentence_before_any_heavy_import(tmp_path: Path):
    done = ktr("attribute", "question=What, (a) or b?", folder=tmp_path)
    said, imported = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "" and imported == "imported: "
    assert said.startswith("ktr.attribute: InputError: question and options are about a video")
    assert list(tmp_path.iterdir()) == []


def test_own_videos_have_the_paper_s_prompt_and_frames_and_any_policy():
    config = compose("attribute_own", ["media=clip.mp4", "question=why", "model.path=m", "options=[red,blue]"])
    assert config.encoder.path == "m" and config.encoder.max_prompt_tokens == 16384 and config.label is None
    assert config.data.validation.media == "clip.mp4" and config.data.validation.options == ["red", "blue"]
    assert config.name == "attribute-16f-s0-media_clip.mp4-path_m"
    assert config.sampling.num_completions == 4 and config.video.max_pixels == 100352


@pytest.mark.parametrize("error", [InputError("media=x: torn"), MissingModel("m: no template")])
@pytest.mark.parametrize("of_a_constructor", [False, True])
def test_what_only_a_decoder_or_a_tokenizer_can_tell_ends_the_program_as_a_wrong_command_line_does(
    error: KtrError, of_a_constructor: bool
):
    raised: Exception = error
    if of_a_constructor:
        raised = InstantiationException("full_key: data")
        raised.__cause__ = error
    assert ending_of(raised, None) == (2, f"{type(error).__name__}: {error}")
    assert ending_of(MissingData("d"), None) == (1, "MissingData: d")  # a run that fails
