"""Video-Holmes (arXiv 2505.21374): suspense films, train_Video-Holmes.json (1,551 rows) and test_Video-Holmes.json."""

from collections.abc import Mapping
from typing import Any


def question(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """An official row; one that somebody wrote in the Video-R1 format is left as it is.

    Its path is the name of the video alone, so that the media root is the folder of the videos, wherever it was
    unpacked. The id names the video too: those of questions count anew in each.
    """
    if "problem" in row:
        return row
    video = row["video ID"]
    return {
        "problem_id": f"{video}-{row['Question ID']}",
        "problem": row["Question"],
        "problem_type": "multiple choice",
        "options": [f"{letter}. {body}" for letter, body in row["Options"].items() if body],
        "solution": row["Answer"],
        "path": f"{video}.mp4",
        "data_source": "Video-Holmes",
        "original_question_type": row["Question Type"],
        "explanation": row.get("Explanation"),
    }
