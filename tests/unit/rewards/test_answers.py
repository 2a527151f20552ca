"""Which part of a text is the answer, by each of the three rules."""

import pytest

from ktr.rewards.answers import extract_answer, parse_number


@pytest.mark.parametrize(
    ("text", "strict", "video_r1", "lenient"),
    [
        ("<think>a</think><answer> B </answer>", "B", "B", "B"),
        ("<answer>two\nlines</answer>", "two\nlines", "two\nlines", "two\nlines"),
        ("<answer>A</answer> no, <answer>B</answer>", "A", "A", "B"),
        ("<answer>A <answer>B</answer></answer>", "A <answer>B", "A <answer>B", "B"),
        ("<answer></answer>", "", "", None),
        ("<think>is it <answer>A</answer> ?</think><answer>B</answer>", "B", "A", "B"),
        ("<think>is it <answer>A</answer> ?</think>", None, "A", None),
        ("<think>no end <answer>A</answer>", None, "A", None),
        ("is it <answer>A</answer> ?</think><answer>B</answer>", "B", "A", "B"),
        ("<think>a</think><answer>A</answer><think>b</think><answer>B</answer>", "A", "A", "B"),
        ("<answer>B</answer><answer> </answer>", "B", "B", "B"),
        ("<answer>B", None, "<answer>B", None),
        ("</answer>B<answer>", None, "</answer>B<answer>", None),
        ("<ANSWER>B</ANSWER>", None, "<ANSWER>B</ANSWER>", None),
        ("<answer>émigré 红</answer>", "émigré 红", "émigré 红", "émigré 红"),
        ("", None, "", None),
        (" B ", None, "B", "B"),
        ("B.", None, "B.", "B"),
        ("I pick (C)", None, "I pick (C)", "C"),
        ("not (A), so (B)", None, "not (A), so (B)", None),
        ("A. red\nB. blue", None, "A. red\nB. blue", None),
        ("A man walks", None, "A man walks", None),
        ("The answer is (D).", None, "The answer is (D).", "D"),
        ("The answer is: D", None, "The answer is: D", "D"),
        ("The answer is A. No. The answer is B.", None, "The answer is A. No. The answer is B.", "B"),
        ("so the answer is 3.14.", None, "so the answer is 3.14.", "3.14"),
        ("the answer is red ball\nbye", None, "the answer is red ball\nbye", "red ball"),
        ("I am not sure.", None, "I am not sure.", None),
    ],
)
def test_each_rule(text, strict, video_r1, lenient):
    assert extract_answer(text, "strict") == strict
    assert extract_answer(text, "video_r1") == video_r1
    assert extract_answer(text, "lenient") == lenient


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.5", 1234.5),
        (" -3 ", -3.0),
        ("1e3", 1000.0),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("3 m", None),
        ("3.5%", 3.5),
        (" 3.5 ％", 3.5),
        ("½", 0.5),
        ("１２", 12.0),
        ("−0.5", -0.5),
        ("1_000", None),
        ("%", None),
        ("-", None),
        ("+2", 2.0),
        (".5", 0.5),
    ],
)
def test_numbers(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text, answer",
    [
        ("<think> a </think> <answer> that </think> <answer> 1 </answer>", "that </think> <answer> 1"),
        ("a <answer> 1 </answer> b </think> <answer> 2 </answer>", "2"),
        ("a </think> <answer> 1 </answer> </think> <answer> 2 </answer>", "1"),
    ],
)
def test_a_thought_ends_where_it_is_first_closed(text: str, answer: str):
    """Else an answer could be tried, and taken back by closing what nothing opened."""
    assert extract_answer(text, "strict") == answer
