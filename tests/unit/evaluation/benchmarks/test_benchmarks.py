"""Rows of each benchmark, official and converted, become items: none is lost in silence."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ktr.errors import MissingData
from ktr.evaluation.benchmarks.benchmark import Benchmark, Loaded
from ktr.evaluation.benchmarks.mmvu import MMVU
from ktr.evaluation.benchmarks.mvbench import FOLDERS, MVBench
from ktr.evaluation.benchmarks.next_gqa import NExTGQA
from ktr.evaluation.benchmarks.own import OwnBenchmark
from ktr.evaluation.benchmarks.tempcompass import TempCompass
from ktr.evaluation.benchmarks.video_holmes import VideoHolmes
from ktr.evaluation.benchmarks.video_mmmu import VideoMMMU
from ktr.evaluation.benchmarks.videomme import VideoMME
from ktr.evaluation.benchmarks.vsi_bench import VSIBench
from ktr.evaluation.rules.named import RULES
from ktr.evaluation.rules.outcome import judge
from tests.unit.evaluation.benchmarks.conftest import Write, converted

HOLMES = {
    "video ID": "a1", "Question ID": "1", "Question Type": "SR", "Question": "Who?",
    "Options": {"A": "friend", "B": "foe", "F": "neither"}, "Answer": "F", "Explanation": "So.",
}  # fmt: skip
MMVU_ROW = {
    "id": "validation_1", "video": "https://huggingface.co/datasets/yale-nlp/MMVU/resolve/main/videos/Art/0.mp4",
    "question_type": "multiple-choice", "metadata": {"subject": "Art"}, "question": "Which?",
    "choices": {letter: f"technique {letter}" for letter in "ABCDE"}, "answer": "D",
}  # fmt: skip
MMVU_OPEN = MMVU_ROW | {
    "id": "validation_2", "question_type": "open-ended", "choices": dict.fromkeys("ABCDE", ""), "answer": "Dolly zoom",
}  # fmt: skip
MME = {
    "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "History", "videoID": "xyz",
    "question_id": "001-1", "task_type": "Counting", "question": "How many?", "options": ["A. 1.", "B. 2."],
    "answer": "B",
}  # fmt: skip
VSI_CHOICE = {
    "id": 7, "dataset": "scannet", "scene_name": "s1", "question_type": "route_planning", "question": "Where?",
    "ground_truth": "B", "options": ["A. left", "B. right"],
}  # fmt: skip
VSI_NUMBER = VSI_CHOICE | {"id": 8, "question_type": "object_counting", "ground_truth": "4", "options": None}
MMMU = {"id": "dev_Biology_3", "question": "Which?", "options": ["x", "A", "z"], "answer": "B", "link_selected": "…"}
MVB = {"video": "v.mp4", "question": "What?", "candidates": ["up", "down", "up"], "answer": "up"}
NEXT = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
NEXT_MIXED = {
    "id": "48_1", "video": "/NExTQA/videos/48.mp4", "question": "why not", "options": ["(A) run", "(B) eat", "(C) sit"],
    "type": "CW", "answer": "(B),(C)", "problem": "why not\nA run\nB eat\nC sit", "solution": "<answer>B,C</answer>",
}  # fmt: skip
CHOICE = {"question": "What is it?\nA. walking\nB. running", "answer": "B. running"}
YES = {"question": "Is it so?\nPlease answer yes or no:", "answer": "yes"}
MATCH = {"question": "Which?\nOption 1: He runs.\nOption 2: He walks.", "answer": "Option 2: He walks."}
CAPTION = {"question": "Write.\nInformation A: {}\nInformation B: {}\nGenerated Caption:", "answer": "B. running"}


def load(kind: type[Benchmark], path: Path, **more: Any) -> Loaded:
    return kind(str(path), str(path.parent), **more).load()


def subtasks(loaded: Loaded) -> dict[str, int]:
    assert loaded.skips == []
    return dict(Counter(item.subtask for item in loaded.items))


def check_own_answers(loaded: Loaded, *rules: str) -> None:
    """Each row's own answer scores full marks."""
    for item in loaded.items:
        for rule in rules:
            for reply in {item.asked.answer, *item.asked.accepted}:
                judged = judge(RULES[rule], f"<think>Hm.</think> <answer>{reply}</answer>", item.asked)
                assert judged.score == 1, (rule, item, reply)


GENERAL = ("video_r1", "strict", "lenient", "partial", "tw_grpo")


def test_video_holmes(write: Write):
    rows = [HOLMES, HOLMES | {"Question ID": 2, "Question Type": "CTI"}]
    official = load(VideoHolmes, write("test.json", rows))
    assert subtasks(official) == {"SR": 1, "CTI": 1} and [item.id for item in official.items] == ["a1-1", "a1-2"]
    assert official.items[0].asked.options == ("A. friend", "B. foe", "F. neither")
    check_own_answers(official, "video_holmes", *GENERAL)
    made = converted(1, "/somebody/Video-Holmes/Benchmark/videos/a1.mp4", original_question_type="TCI", answer="B")
    field = load(VideoHolmes, write("eval.json", [made | {"video": "a1.mp4", "answer": "blue"}]))
    assert subtasks(field) == {"TCI": 1}
    check_own_answers(field, *GENERAL)


def test_mmvu_has_its_open_questions_apart(write: Write):
    file = write("validation.json", [MMVU_ROW, MMVU_OPEN])
    choices, questions = load(MMVU, file), load(MMVU, file, part="open")
    assert subtasks(choices) == {"Art": 1} and subtasks(questions) == {"open: Art": 1}
    assert choices.aside == {"open: Art": 1} and questions.items[0].asked.options == ()
    assert choices.items[0].media[0].paths == ("videos/Art/0.mp4",)
    check_own_answers(choices, *GENERAL)
    check_own_answers(questions, "video_r1", "strict", "lenient")
    field = load(MMVU, write("eval_mmvu.json", [converted(1, "", video="/MMVU/videos/Chemistry/0.mp4")]))
    assert subtasks(field) == {"Chemistry": 1}


def test_video_mme_in_all_three_forms(write: Write):
    second = {
        "question_id": "001-2",
        "task_type": "OCR",
        "question": "What?",
        "choices": ["A. x", "B. y"],
        "answer": "A",
    }
    for_script = {key: MME[key] for key in ("video_id", "domain")} | {"duration": "long", "questions": [second, second]}
    rows = [MME, for_script, converted(3, "./Evaluation/x.mp4") | {**MME, "duration": "medium", "question_id": "9"}]
    loaded = load(VideoMME, write("mme.jsonl", "\n".join(map(json.dumps, rows))))
    assert subtasks(loaded) == {"short": 1, "long": 2, "medium": 1}
    assert loaded.items[0].groups == {"domain": "Knowledge", "sub_category": "History", "task_type": "Counting"}
    assert len({item.id for item in loaded.items}) == 4
    check_own_answers(loaded, "videomme", *GENERAL)


def test_vsi_bench(write: Write):
    loaded = load(VSIBench, write("test.jsonl", "\n".join(map(json.dumps, (VSI_CHOICE, VSI_NUMBER)))))
    assert subtasks(loaded) == {"route_planning": 1, "object_counting": 1}
    assert [item.asked.problem_type for item in loaded.items] == ["multiple choice", "regression"]
    assert loaded.items[0].media[0].paths == ("scannet/s1.mp4",)
    check_own_answers(loaded, "vsi_bench", "video_r1", "strict", "lenient")


def test_video_mmmu_has_pictures_numbers_and_many_options(write: Write):
    picture = MMMU | {"options": "['3/8', \"it's\"]", "answer": "A", "image": {"path": "p.png"}}
    number = MMMU | {"id": "dev_Chemistry_1", "options": [], "answer": "12.97", "question_type": "open"}
    many = MMMU | {"id": "new_Music_2", "options": [f"option {n}" for n in range(14)], "answer": "N"}
    write("video_mmmu/Adaptation.json", [picture, number])
    write("video_mmmu/Comprehension.json", [MMMU])
    folder = write("video_mmmu/Perception.json", [many]).parent
    loaded = load(VideoMMMU, folder)
    assert subtasks(loaded) == {"Adaptation": 2, "Comprehension": 1, "Perception": 1}
    assert [medium.kind for medium in loaded.items[0].media] == ["video", "image"]
    assert [item.groups["discipline"] for item in loaded.items] == ["Science", "Science", "Science", "Art"]
    assert loaded.items[1].asked.problem_type == "numerical"
    check_own_answers(loaded, "video_mmmu", "video_r1", "strict", "lenient")


def test_the_converted_video_mmmu_tells_its_tracks_by_their_order(write: Write):
    rows = [converted(n, f"./Evaluation/VideoMMMU/dev_Math_{n % 2}.mp4") for n in range(6)]
    assert subtasks(load(VideoMMMU, write("eval.json", rows))) == {"Adaptation": 2, "Comprehension": 2, "Perception": 2}
    assert subtasks(load(VideoMMMU, write("part.json", rows[:5]))) == {"track not told": 5}


def test_mvbench_finds_the_task_by_file_place_or_folder(write: Write):
    write("json/action_sequence.json", [MVB | {"start": 1.5, "end": 4}, MVB | {"candidates": ["up"]}])
    folder = write("json/episodic_reasoning.json", [MVB | {"video": "clip"}]).parent
    official = load(MVBench, folder)
    assert subtasks(official) == {"action_sequence": 2, "episodic_reasoning": 1}
    first, _, frames = official.items
    assert (first.start, first.end, first.asked.answer) == (1.5, 4.0, "C")  # the last of equal texts
    assert frames.media[0].kind == "frames" and frames.media[0].paths == ("video/tvqa/frames_fps3_hq/clip",)
    check_own_answers(official, *GENERAL)
    assert judge(RULES["mvbench"], "(C) up", first.asked).score == 1
    field = load(
        MVBench, write("eval.json", [converted(1, "./Evaluation/MVBench/ssv2_video/1.mp4"), converted(2, "star/x")])
    )
    assert subtasks(field) == {"action_antonym": 1, "task not told": 1}
    whole = [
        converted(n, f"./Evaluation/MVBench/{folder}/{n}.mp4")
        for n, folder in enumerate(folder for folder in FOLDERS.values() for _ in range(200))
    ]
    assert subtasks(load(MVBench, write("whole.json", whole))) == dict.fromkeys(FOLDERS, 200)


def test_next_gqa_from_its_table_and_with_several_right_letters(write: Write):
    table = NEXT + '11,1,1,1,"why, then",to eat,3,CW,run,to eat,sit,1,lie\n12,1,1,1,how,3,0,CH,run,eat,sit,stand,lie\n'
    official = load(NExTGQA, write("test.csv", table))
    assert subtasks(official) == {"CW": 1, "CH": 1}
    assert [(item.id, item.asked.answer) for item in official.items] == [("11_3", "B"), ("12_0", "D")]
    check_own_answers(official, *GENERAL)
    mixed = load(NExTGQA, write("mixed.json", [NEXT_MIXED]))
    (item,) = mixed.items
    assert item.asked.answer == "B,C" and item.asked.question == "why not" and item.id == "48_1"
    assert item.groups == {"answers": "several right letters"}
    assert judge(RULES["strict"], "<answer>B, C</answer>", item.asked).score == 1
    assert judge(RULES["partial"], "<answer>C</answer>", item.asked).score == 0.5


def test_tempcompass_has_four_tasks_or_one(write: Write):
    write("questions/multi-choice.json", {"77": {"action": [CHOICE, CHOICE]}, "77_reverse": {"order": [CHOICE]}})
    write("questions/yes_no.json", {"77": {"speed": [YES, YES]}})
    write("questions/captioning.json", {"77": {"speed": [CAPTION]}})
    folder = write("questions/caption_matching.json", {"77": {"speed": [MATCH]}}).parent
    everything, one = load(TempCompass, folder), load(TempCompass, folder, tasks=["multi-choice"])
    assert subtasks(everything) == {"caption_matching": 1, "captioning": 1, "multi-choice": 3, "yes_no": 2}
    assert subtasks(one) == {"multi-choice": 3} and one.aside.total() == 4
    assert len({item.id for item in everything.items}) == 7
    assert one.items[0].asked.question == "What is it?" and one.items[0].groups == {"dimension": "action"}
    judged = [item for item in everything.items if item.subtask != "captioning"]
    check_own_answers(Loaded(judged), "tempcompass", "video_r1", "strict", "lenient")
    flat = [row | {"video_id": 77, "dim": "speed"} for row in (CHOICE, YES, MATCH, CAPTION)]
    assert subtasks(load(TempCompass, write("flat.json", flat))) == {task: 1 for task in
        ("multi-choice", "yes_no", "caption_matching", "captioning")}  # fmt: skip


def test_converted_tempcompass_rows_tell_their_task_by_their_text(write: Write):
    rows = [
        converted(1, "videos/1.mp4", "B", options=["A. walking", "B. running"]),
        converted(2, "videos/1.mp4", "A", options=["A. yes", "B. no"], problem="Is it?"),
        converted(3, "videos/1.mp4", "yes", options=None, problem="Is it?", problem_type="free-form"),
        converted(4, "videos/1.mp4", "B", options=["A. Option 1: He runs.", "B. Option 2: He walks."]),
        converted(5, "videos/1.mp4", "a man", options=None, problem=CAPTION["question"], problem_type="free-form"),
    ]
    loaded = load(TempCompass, write("eval.json", rows))
    assert [i.subtask for i in loaded.items] == ["multi-choice", "yes_no", "yes_no", "caption_matching", "captioning"]
    check_own_answers(Loaded(loaded.items[:4]), "video_r1", "strict", "lenient")


def test_rows_of_one_s_own(write: Write):
    file = write("own.json", [converted(1, "a.mp4", original_question_type="color")])
    assert subtasks(load(OwnBenchmark, file)) == {"color": 1}
    rows = write("rows.json", [{"path": "a.mp4", "solution": 3, "problem": "How many?"}, {"problem": "?"}])
    loaded = load(OwnBenchmark, rows, format="ktr.data.rows.with_numbers_written")
    assert [item.asked.problem_type for item in loaded.items] == ["numerical"]
    assert [skip.reason.split(": ", 1)[1] for skip in loaded.skips] == [
        "its 'solution' is missing; correct or drop the row"
    ]


ODD = [
    ({}, "video ID"), (HOLMES | {"Answer": "E"}, "Answer"), (HOLMES | {"Question Type": "XX"}, "Question Type"),
    (HOLMES | {"Options": 3}, "Options"), (HOLMES | {"Question": ""}, "Question"), ([], "no object"),
    (converted(1, "a.mp4", solution="<answer></answer>"), "solution"), (converted(1, ""), "path"),
    (converted(1, "a.mp4", problem_type="song"), "problem_type"), (converted(1, "a.mp4", start="soon"), "start"),
    (converted(1, "a.mp4", answer="Z"), "solution"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "field"), ODD, ids=[field for _, field in ODD])
def test_an_odd_row_is_one_skip_that_names_file_index_and_field(row: Any, field: str, write: Write):
    loaded = load(VideoHolmes, write("odd.json", [HOLMES, row, HOLMES]))
    (skip,) = loaded.skips
    assert len(loaded.items) == 2 and skip.index == 1 and field in skip.reason and "odd.json, row 1" in skip.reason


def test_a_file_that_cannot_be_read_says_how_to_get_it(write: Write, tmp_path: Path):
    with pytest.raises(MissingData, match=r"pandas\.read_parquet"):
        load(VSIBench, write("test.parquet", "PAR1"))
    with pytest.raises(MissingData, match=r"does not exist\. Fetch it\."):
        load(VSIBench, tmp_path / "no.json", how_to_get="Fetch it.")
    with pytest.raises(MissingData, match="none of its rows is an item of vsi_bench; the first: "):
        load(VSIBench, write("rows.json", [{}]))
    assert len(load(VideoHolmes, write("broken.jsonl", '{"a"\n' + json.dumps(HOLMES))).skips) == 1
