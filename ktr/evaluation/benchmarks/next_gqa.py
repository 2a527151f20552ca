"""NExT-GQA (arXiv 2309.01327): why, how, and before and after, of NExT-QA with the moment that tells.

Here the answer is measured (Acc@QA), not the moment. Files that were mixed with negated questions have several right
letters ("B,C"): all of them (``strict``) and a part of them (``partial``) are two numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.converted import row_id
from ktr.evaluation.benchmarks.item import Fields, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice

CANDIDATES = ("a0", "a1", "a2", "a3", "a4")


@dataclass(frozen=True)
class NExTGQA(Benchmark):
    """Its models choose among candidates by their own heads: a reply in words has no official rule."""

    name, rule = "next_gqa", "lenient"

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        video = a_text(row, "video_id" if "video_id" in row else "video", place)
        bodies = [a_text(row, key, place) for key in CANDIDATES]
        answer = a_text(row, "answer", place)
        if answer not in bodies and answer.isdecimal() and int(answer) < len(bodies):
            answer = bodies[int(answer)]  # of NExT-QA's own files: the candidate's place
        options = tuple(f"{letter}. {body}" for letter, body in zip("ABCDE", bodies))
        asked = choice(a_text(row, "question", place), options, answer, place, "answer", is_text=True)
        own = f"{video}_{a_text(row, 'qid', place)}" if row.get("qid") not in (None, "") else row_id(row, place)
        return Fields(own, asked, (ItemMedium((f"NExTVideo/{video}.mp4", f"videos/{video}.mp4")),))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        return str(row.get("type") or "").strip()

    def groups(self, row: Mapping[str, Any], fields: Fields) -> dict[str, str]:
        several = {True: "several right letters", False: "one right letter"}
        return {"answers": several["," in fields.asked.answer]}
