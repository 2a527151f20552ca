"""Rows are found by content, by looks and by question; what is not there is counted; nothing is done twice."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from hydra.utils import instantiate

from ktr.config.command_line import check_command_line
from ktr.config.composing import benchmark_nodes, compose
from ktr.data.dataset import QuestionDataset
from ktr.data.video import VideoReader
from ktr.duplicates import media_hashes
from ktr.duplicates.found import Found
from ktr.duplicates.search import Search
from ktr.duplicates.sides import Side, benchmark_rows, training_rows
from ktr.errors import ConfigError, MissingData


def search(given: list[str], *more: str) -> Found:
    config = compose("duplicates", [*given, *more])
    nodes = benchmark_nodes(config, "benchmarks")
    benchmarks = {name: benchmark_rows(name, instantiate(node)) for name, node in nodes.items()}
    return instantiate(config.search).run(training_rows(config.data.train), benchmarks)


def by_row(found: Found) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in found.lines}


def test_each_kind_is_found_and_nothing_else(given: list[str], data: Path):
    lines = by_row(search(given))
    assert {row: (line["item"], line["kinds"]) for row, line in lines.items()} == {
        "t0": ("b0", ["same_file", "same_frames"]),
        "t1": ("b2", ["same_frames"]),
        "t3": ("b4", ["same_question"]),
        "t4": ("b4", ["same_question"]),
    }
    assert lines["t0"]["similarity"] == {"same_file": 1.0, "same_frames": 1.0}
    assert lines["t3"]["similarity"] == lines["t4"]["similarity"] == {"same_question": 1.0}
    assert (lines["t4"]["file"], lines["t4"]["index"], lines["t4"]["benchmark"]) == (f"{data}/train.json", 4, "own")


def test_the_table_counts_rows_and_items_and_what_is_not_there(given: list[str]):
    told = search(given).table().splitlines()
    assert told[0] == "training: 6 rows, 4 media, 1 missing; skipped: 1 UnknownProblemType"
    assert told[1] == "own: 6 rows, 4 media, 1 missing"
    assert [line.split() for line in told[2:]] == [
        ["benchmark", "kind", "training", "rows", "items", "of"],
        ["own", "same_file", "1", "2", "6"], ["own", "same_frames", "2", "3", "6"],
        ["own", "same_question", "2", "1", "6"], ["own", "any", "of", "them", "4", "4", "6"],
    ]  # fmt: skip


def test_only_the_kinds_that_are_asked_for(given: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(VideoReader, "read", None)  # without frames nothing is decoded
    found = search(given, "search.kinds=[same_file,same_question]")
    assert {row: line["kinds"] for row, line in by_row(found).items()} == {
        "t0": ["same_file"], "t3": ["same_question"], "t4": ["same_question"]
    }  # fmt: skip


def test_a_second_search_hashes_nothing_again(given: list[str], monkeypatch: pytest.MonkeyPatch):
    first = search(given)
    monkeypatch.setattr(VideoReader, "read", None)
    monkeypatch.setattr(media_hashes, "_content_hash", lambda path: pytest.fail(f"{path} is hashed again"))
    again = search(given)
    assert again.lines == first.lines and again.table() == first.table()


def test_a_search_that_was_cut_off_goes_on_where_it_was(given: list[str], monkeypatch: pytest.MonkeyPatch):
    hashed: list[Path] = []
    hash_of = media_hashes._content_hash

    def cut_off(path: Path) -> bytes:
        if len(hashed) == 1:
            raise KeyboardInterrupt
        hashed.append(path)
        return hash_of(path)

    monkeypatch.setattr(media_hashes, "_content_hash", cut_off)
    with pytest.raises(KeyboardInterrupt):
        search(given, "search.kinds=[same_file]")
    first = hashed.pop()
    monkeypatch.setattr(media_hashes, "_content_hash", lambda path: hashed.append(path) or hash_of(path))
    assert list(by_row(search(given, "search.kinds=[same_file]"))) == ["t0"]
    assert hashed and first not in hashed


def test_media_that_cannot_be_read_are_counted_by_their_fault_the_second_time_too(given: list[str], data: Path):
    (data / "train" / "e.mp4").write_bytes(b"no video")
    try:
        for _ in range(2):
            found = search(given)
            assert found.faults == {"CorruptMedia": 1} and found.lines[-1]["id"] == "t4"
            assert "media that cannot be read: 1 CorruptMedia" in found.table()
    finally:
        (data / "train" / "e.mp4").unlink()


def test_training_media_of_which_none_can_be_read_are_counted(given: list[str], data: Path, tmp_path: Path):
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    found = search([*given, f"data.train.media_root={tmp_path}"])
    assert found.faults == {"CorruptMedia": 4} and [line["id"] for line in found.lines] == ["t3", "t4"]


def test_a_question_with_other_options_is_another(given: list[str]):
    found = search(given, "search.kinds=[same_question]", "search.min_similarity=0.99")
    assert [line["item"] for line in found.lines] == ["b4", "b4"]


def test_excluded_rows_are_those_that_were_found(given: list[str], data: Path, tmp_path: Path):
    lines = search(given, "search.kinds=[same_file,same_frames]").lines
    (tmp_path / "duplicates.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    kept = QuestionDataset(data / "train.json", data / "train", exclude=tmp_path / "duplicates.jsonl")
    assert [question.id for question in kept.questions] == ["t2", "t3", "t5"]
    assert [skip.id for skip in kept.skips if skip.kind == "Duplicate"] == ["t0", "t1"]


def test_all_parts_of_a_mixture_are_looked_at_whatever_is_taken_of_them(given: list[str], data: Path):
    parts = [
        f"data.train.parts.{part}.{key}={data}/{value}"
        for part in ("video_r1", "video_holmes")
        for key, value in (("annotations", "train.json"), ("media_root", "train"))
    ]
    found = search(["data=video_r1_holmes_16k", *parts, *given[3:]], "search.kinds=[same_file]")
    assert [line["id"] for line in found.lines] == ["t0", "t0"]


def test_rows_of_ones_own_are_read_and_media_alone_are_no_rows(given: list[str], data: Path):
    rows = [f"data.validation.rows={data}/train.json", f"data.validation.media_root={data}/train"]
    own = compose("duplicates", ["data=own", *rows, given[3]])
    assert [row.id for row in training_rows(own.data.train).rows] == [f"t{number}" for number in range(6)]
    film = [f"data.validation.media={data}/train/a.mp4", "data.validation.question=why"]
    with pytest.raises(ConfigError, match=r"give data\.validation\.rows"):
        training_rows(compose("duplicates", ["data=own", *film, given[3]]).data.train)


def test_the_format_of_a_data_set_reads_its_rows(given: list[str], tmp_path: Path):
    row = {
        "video ID": "v",
        "Question ID": 7,
        "Question": "Why?",
        "Question Type": "SR",
        "Answer": "A",
        "Options": {"A": "x", "B": "y"},
    }
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    files = ["data=video_r1", "data/part@data.train=video_holmes_train", f"data.train.annotations={tmp_path}/rows.json"]
    (only,) = training_rows(
        compose("duplicates", [*files, f"data.train.media_root={tmp_path}", given[3]]).data.train
    ).rows
    assert (only.id, only.text, only.media) == ("v-7", "why\nx\ny", ())


def test_an_embedded_world_is_made_and_each_of_its_videos_is_like_itself_alone(given: list[str], ktr_folders: Path):
    made = ["data=shapes", "data.train.num_questions=6", f"paths.cache={ktr_folders}"]
    config = compose("duplicates", [*made, "benchmarks=[shapes]", "search.kinds=[same_file,same_frames]"])
    train = training_rows(config.data.train)
    assert len(train.rows) == 6 and not train.missing
    items = Side([replace(row, source="itself") for row in train.rows])
    itself = instantiate(config.search).run(train, {"itself": items})
    assert [(line["id"], line["item"]) for line in itself.lines] == [(str(n), str(n)) for n in range(6)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kinds": ["same_sound"]}, "kinds=same_sound: choose some of same_file, same_frames"),
        ({"min_similarity": 0.0}, r"min_similarity=0\.0: it lies in \(0, 1\]"),
        ({"num_decoders": 0}, "num_decoders=0: it is 1 at least"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(change: dict[str, Any], said: str):
    right = {"kinds": ["same_file"], "max_distance": 10, "min_similarity": 0.8, "num_decoders": 1, "store": "h"}
    with pytest.raises(ConfigError, match=said):
        Search(**right | change)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("benchmarks=[mmvv]", r"benchmark=mmvv: .*; did you mean mmvu\?"),
        ("search.max_distanse=3", r"unknown key search\.max_distanse: did you mean search\.max_distance"),
        ("benchmarks=???", "benchmarks has no value"),
    ],
)
def test_a_slip_of_the_command_line_is_one_sentence(given: list[str], more: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        search([argument for argument in given if argument.partition("=")[0] != more.partition("=")[0]], more)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_are_named_before_any_work(given: list[str]):
    (job,) = check_command_line("duplicates", given)
    assert job.name == "duplicates"
    with pytest.raises(MissingData, match=r"benchmark\.annotations=.*none\.json does not exist"):
        search([*given[:3], "benchmarks=[{name: own, annotations: none.json, media_root: .}]", *given[4:]])


def test_the_command_writes_what_exclude_reads_and_prints_its_path_last(given: list[str], data: Path, tmp_path: Path):
    done = run(
        [sys.executable, "-m", "ktr.duplicates", *given, "search.kinds=[same_file]"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    output = tmp_path / "duplicates.jsonl"
    assert done.stdout.splitlines()[-1] == str(output)
    (line,) = map(json.loads, output.read_text().splitlines())
    assert list(line) == ["file", "index", "id", "kinds", "benchmark", "item", "similarity"]
    kept = QuestionDataset(data / "train.json", data / "train", exclude=output)
    assert [skip.id for skip in kept.skips if skip.kind == "Duplicate"] == ["t0"]
