"""A skip is a row of skips.jsonl once, whoever meets it and how often; the counts are those of the rows."""

from collections import Counter
from multiprocessing import get_context
from pathlib import Path

from ktr.data.skips import Skip, SkipLog


def skip(id: str, reason: str = "broken", kind: str = "CorruptMedia", media: str = "a.mp4") -> Skip:
    return Skip("train", "", None, id, media, kind, reason)


def record_all(path: Path, rank: int) -> None:
    log = SkipLog(path)
    for i in range(30):
        log.record(skip(str((i + 7 * rank) % 30)))


def test_processes_that_meet_the_same_questions_write_each_once(tmp_path: Path):
    path, context = tmp_path / "skips.jsonl", get_context("fork")
    ranks = [context.Process(target=record_all, args=(path, rank)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * 3
    assert len(path.read_text().splitlines()) == 30
    assert SkipLog(path).counts == Counter(CorruptMedia=30)


def test_counts_are_those_of_all_processes(tmp_path: Path):
    mine, other = (SkipLog(tmp_path / "skips.jsonl") for _ in range(2))
    mine.record(skip("1"))
    other.record(skip("2", kind="DecodeTimeout"))
    other.record(skip("1", reason="[12:01:59] broken"))
    assert mine.counts == other.counts == Counter(CorruptMedia=1, DecodeTimeout=1)


def test_two_questions_of_one_id_are_two_skips(tmp_path: Path):
    log = SkipLog(tmp_path / "skips.jsonl")
    log.record(skip("1"))
    log.record(skip("1", media="b.mp4"))
    assert log.counts == Counter(CorruptMedia=2)


def test_without_a_file_a_process_counts_for_itself():
    log = SkipLog()
    for _ in range(2):
        log.record(skip("1"))
    assert log.counts == Counter(CorruptMedia=1)


def test_a_line_torn_by_a_kill_is_written_over(tmp_path: Path):
    path = tmp_path / "skips.jsonl"
    SkipLog(path).record(skip("1"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"stage": "tr')
    SkipLog(path).record(skip("2"))
    assert path.read_bytes().startswith(whole) and SkipLog(path).counts == Counter(CorruptMedia=2)
