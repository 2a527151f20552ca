"""items.jsonl outlives a kill, and a folder belongs to one identity."""

import json
from pathlib import Path

import pytest

from ktr.errors import ConfigError, MissingData
from ktr.evaluation.asking.identity import claim, differences
from ktr.evaluation.asking.items_file import ItemsFile


def line(id: str, outcome: str = "right") -> dict[str, str]:
    return {"id": id, "outcome": outcome}


@pytest.mark.parametrize("kept", range(0, 60, 7))
def test_whatever_byte_a_kill_leaves_last_whole_lines_stay_and_the_file_goes_on(kept: int, tmp_path: Path):
    path = tmp_path / "items.jsonl"
    whole = ItemsFile(path)
    for id in "abc":
        whole.append(line(f"{id}é"))
    whole.close()
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    file = ItemsFile(path)
    for id in "abc":
        if f"{id}é" not in file.lines:
            file.append(line(f"{id}é"))
    file.close()
    assert path.read_bytes() == content


def test_a_line_that_is_no_item_names_the_file_and_the_line(tmp_path: Path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(line("a")) + "\n[1]\n")
    with pytest.raises(MissingData, match=r"items\.jsonl: cannot be read \(line 2 is no item\)"):
        ItemsFile(path)


def test_failed_items_can_be_taken_out_and_the_end_puts_all_in_order(tmp_path: Path):
    file = ItemsFile(tmp_path / "items.jsonl")
    for id, outcome in (("b", "right"), ("c", "failed"), ("a", "wrong")):
        file.append(line(id, outcome))
    assert [file.drop(lambda line: line["outcome"] == "failed") for _ in range(2)] == [1, 0]
    file.append(line("c"))
    file.put_in_order(["a", "b", "c", "d"])
    assert [*ItemsFile(file.path).lines] == ["a", "b", "c"]


def test_a_lone_surrogate_is_written_and_read(tmp_path: Path):
    file = ItemsFile(tmp_path / "items.jsonl")
    file.append(line("a") | {"output": "\ud800"})
    file.close()
    assert ItemsFile(file.path).lines["a"]["output"] == "\ud800"


def test_items_of_another_identity_are_refused_with_what_differs(tmp_path: Path):
    claim(tmp_path, {"rule": "strict", "video": {"num_frames": 16}})
    claim(tmp_path, {"rule": "strict", "video": {"num_frames": 32}})  # nothing was asked yet
    ItemsFile(tmp_path / "items.jsonl").append(line("a"))
    claim(tmp_path, {"rule": "strict", "video": {"num_frames": 32}})
    with pytest.raises(ConfigError, match=r"asked otherwise: rule: \"strict\" and \"lenient\"; video.num_frames: 32"):
        claim(tmp_path, {"rule": "lenient", "video": {"num_frames": 64}})
    assert list(differences({"a": 1}, {"a": 1, "b": None})) == []
