"""Each rule by name: what it reads, its quirks, and what holds for any text."""

import random
from dataclasses import replace

import pytest

from ktr.errors import ConfigError
from ktr.evaluation.rules.asked import Asked, labelled, named_options
from ktr.evaluation.rules.named import RULES, rule_named
from ktr.evaluation.rules.outcome import Judgement, Outcome, judge

COLORS = Asked("C", options=("A. red", "B. blue", "C. green", "D. black"))
TEXT = replace(COLORS, answer="green")
SEVERAL = Asked("B,C", options=("(A) red", "(B) blue", "(C) green"), written="(B),(C)")
PLAIN = Asked("C", options=("red", "blue", "green"), written="green")
COUNT = Asked("10", "regression")
NUMBER = Asked("12.97", "numerical")
CHOICE = Asked(
    "B", options=("A. walking", "B. running"), written="B. running", question="What is it?\nA. walking\nB. running"
)
YES = Asked("yes", options=("yes", "no"), question="Is it so?")
CAPTIONS = ("Option 1: He runs.", "Option 2: He walks.")
MATCHING = Asked("Option 2", options=CAPTIONS, written=CAPTIONS[1], question="\n".join(("Which?", *CAPTIONS)))
CAPTION = Asked("B. running", "free-form", question="Write it.\nInformation A: {}\nGenerated Caption:")
ALL = (COLORS, TEXT, SEVERAL, PLAIN, COUNT, NUMBER, CHOICE, YES, MATCHING, CAPTION, Asked("J"), Asked("a dog"))
GENERAL = ("video_r1", "strict", "lenient", "partial", "tw_grpo")
PIECES = [
    *"ABCDEabc()[]{}.,:;!?%=<>\n\t 0123456789-+", "<answer>", "</answer>", "<think>", "</think>", "answer is ",
    "Answer:", "(A)", "B.", "The best option is ", "I'm sorry", "Option 1", "yes", "no", "green", "1e999", "nan",
    "½", "\ud800", "绿", "\0", "٣", ") ", "so ", "DNA ",
]  # fmt: skip


def told(rule: str, reply: str, asked: Asked = COLORS, cut_off: bool = False) -> Judgement:
    return judge(RULES[rule], reply, asked, cut_off)


def outcome(rule: str, reply: str, asked: Asked = COLORS, cut_off: bool = False) -> str:
    return told(rule, reply, asked, cut_off).outcome.value


@pytest.mark.parametrize("rule", RULES)
def test_no_text_makes_a_rule_raise_and_spaces_around_it_change_nothing(rule: str):
    draw = random.Random(rule)
    for _ in range(400):
        reply = "".join(draw.choices(PIECES, k=draw.randrange(12)))
        for asked in ALL:
            judged = told(rule, reply, asked)
            assert judged == told(rule, f" \n\t{reply}\n  ", asked)
            assert 0 <= judged.score <= 1 and (judged.outcome is Outcome.RIGHT) == (judged.score == 1)
            assert judged.outcome in (Outcome.RIGHT, Outcome.WRONG) or judged.score == 0


@pytest.mark.parametrize("rule", GENERAL)
def test_the_order_of_options_does_not_change_the_score_of_a_text(rule: str):
    draw = random.Random(0)
    bodies = ["red", "Apple", "green", "not sure", "Dogs (A) run"]
    for reply in ("green", "<answer>green</answer>", "the answer is Apple", "I think red or green.", "Green."):
        scores = set()
        for _ in range(20):
            draw.shuffle(bodies)
            options = tuple(f"{letter}. {body}" for letter, body in zip("ABCDE", bodies))
            scores.add(told(rule, reply, Asked("green", options=options)).score)
        assert len(scores) == 1, reply


@pytest.mark.parametrize("rule", GENERAL)
def test_no_letter_is_preferred_where_none_is_named(rule: str):
    replies = ("A man walks. A dog sits. I see Blue Cars.", "It may be A. or B. or C.", "(A) is likely, (C) too.", "Hm")
    for reply in replies:
        assert {outcome(rule, reply, replace(COLORS, answer=letter)) for letter in "ABCD"} == {"unparsable"}


RIGHT = [
    (COLORS, "<answer>C</answer>", {*RULES} - {"tempcompass"}), (COLORS, "C", {*RULES} - {"strict", "tw_grpo"}),
    (COLORS, "(C)", {"lenient", "mvbench", "videomme", "video_mmmu", "video_holmes"}),
    (COLORS, "<answer>C. green</answer>", {"lenient", "videomme", "mvbench", "video_mmmu", "vsi_bench"}),
    (COLORS, "The answer is C.", {"lenient", "videomme", "video_holmes"}), (COLORS, "answer: C", {"tw_grpo"}),
    (TEXT, "green", {"video_r1", "lenient", "partial"}), (TEXT, "<answer>green</answer>", {*GENERAL}),
    (TEXT, "<answer>C</answer>", {*RULES} - {"tempcompass"}), (PLAIN, "green", {"video_r1", "lenient", "partial"}),
    (SEVERAL, "<answer>B,C</answer>", {*GENERAL}), (SEVERAL, "<answer>B, C</answer>", {*GENERAL}),
    (SEVERAL, "<answer>C,B</answer>", {"lenient", "partial", "tw_grpo"}), (SEVERAL, "(B) and (C)", set()),
    (COUNT, "<answer>10</answer>", {"video_r1", "strict", "lenient", "partial", "tw_grpo", "vsi_bench"}),
    (COUNT, "10.", {"lenient", "vsi_bench", "video_r1"}), (COUNT, "There are 10 of them.", {"lenient"}),
    (NUMBER, "<answer>12.97</answer>", {"video_r1", "strict", "lenient", "video_mmmu"}),
    (NUMBER, "So the mass is 12.97 g", {"lenient", "video_mmmu"}),
    (CHOICE, "B. running", {"tempcompass", "lenient", "video_r1"}), (CHOICE, "B", {"tempcompass", "lenient"}),
    (CHOICE, "B) running", {"tempcompass", "lenient"}), (YES, "Yes, it is.", {"tempcompass"}),
    (YES, "<answer>yes</answer>", {"tempcompass", *GENERAL}), (YES, "Yes.", {"tempcompass", "lenient"}),
    *((MATCHING, reply, {"tempcompass", "lenient"}) for reply in (CAPTIONS[1], "He walks.", "Option 2", "2", "2.")),
    (MATCHING, f"<answer>{CAPTIONS[1]}</answer>", {"tempcompass", *GENERAL} - {"tw_grpo"}),
    (CAPTION, "<answer>B. running</answer>", {"video_r1", "strict", "lenient"}),
    (Asked("-5", "numerical"), "The answer is −5 °C", {"lenient"}),
    (Asked("5%", "numerical"), "It is 5％.", {"lenient"}),
    (Asked("Resistance", "free-form"), "<answer>Resistance</answer>", {"video_r1", "strict", "lenient"}),
    (Asked("J"), "<answer>J</answer>", {*GENERAL}), (Asked("a dog"), "<answer>a dog</answer>", {*GENERAL}),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "reply", "rules"), RIGHT, ids=lambda value: value if isinstance(value, str) else "")
def test_a_right_answer_has_full_marks_under_each_rule_that_applies(asked: Asked, reply: str, rules: set[str]):
    assert {rule for rule in rules if outcome(rule, reply, asked) != "right"} == set()


@pytest.mark.parametrize("rule", RULES)
def test_without_a_reply_there_is_no_answer(rule: str):
    assert outcome(rule, " \n") == "unparsable" and outcome(rule, "", cut_off=True) == "cut_off"


def test_a_minus_of_another_form_is_no_part_of_the_text_around():
    assert outcome("lenient", "The answer is −5 m", Asked("5", "numerical")) == "wrong"


def test_what_is_no_answer_says_why():
    for rule in ("strict", "lenient", "video_r1", "vsi_bench"):
        assert outcome(rule, "I'm sorry, but I can't help with that video.", COUNT) == "refused"
        assert outcome(rule, "<think>It is long and", COUNT, cut_off=True) == "cut_off"
    assert outcome("strict", "I cannot view the video. <answer>D</answer>") == "wrong"  # it answered all the same
    assert outcome("video_r1", "I think that it", cut_off=True) == "cut_off"
    assert outcome("strict", "C", cut_off=True) == "cut_off" and outcome("strict", "C") == "unparsable"
    assert outcome("video_r1", "D") == "wrong" and outcome("video_r1", "It is green") == "unparsable"


def test_video_holmes_finds_letters_in_words():
    asked = Asked("F", options=("A. x", "F. Plan B fails"))
    assert told("video_holmes", "<answer>F. Plan B fails</answer>", asked).prediction == "B"
    assert told("video_holmes", "<answer>F: it fails</answer>", asked).outcome == Outcome.RIGHT
    assert told("video_holmes", "<answer>A</answer> <answer>F</answer>", asked).prediction == "F"
    assert told("video_holmes", "no tag, F", asked).prediction == "F"


def test_video_mme_takes_the_first_capital():
    assert told("videomme", "A man says C").prediction == "A" and told("videomme", "Best answer: D").prediction == "B"
    assert told("videomme", "The correct answer is D").prediction == "D"


def test_mvbench_is_content_with_a_bracket_and_not_with_a_text():
    assert outcome("mvbench", "(") == "right" and outcome("mvbench", "c. green") == "right"
    assert outcome("mvbench", "green", PLAIN) == "wrong" and outcome("mvbench", "(B)") == "wrong"


def test_vsi_bench_counts_an_error_at_the_threshold_and_video_r1_does_not():
    counts = [Asked(str(n), "regression") for n in (2, 4, 5, 10)]
    off = [[told(rule, str(int(a.answer) + 1), a).score for a in counts] for rule in ("vsi_bench", "video_r1")]
    assert off == [[0.1, 0.6, 0.6, 0.9], [0.0, 0.5, 0.6, 0.8]]  # 1 - 0.8 is less than 0.2 in floating point
    assert outcome("vsi_bench", "about ten", COUNT) == "unparsable"
    assert told("vsi_bench", "0", Asked("0", "regression")).score == 1 and outcome("vsi_bench", "c", COLORS) == "right"


def test_tempcompass_asks_no_model():
    assert outcome("tempcompass", "A man is running.", CAPTION) == "unparsable"
    assert outcome("tempcompass", "Not sure", YES) == "wrong" and outcome("tempcompass", "It is", YES) == "unparsable"
    assert outcome("tempcompass", "The answer is B", CHOICE) == "unparsable"
    assert outcome("tempcompass", CAPTIONS[0], MATCHING) == "wrong"


def test_video_mmmu_reads_letters_as_mmmu_does():
    assert told("video_mmmu", "Sample A. It is (B)").prediction == "A"
    assert told("video_mmmu", "(A) or (B)").prediction == "B"
    assert told("video_mmmu", "I am quite sure that it must be green").prediction == "C"
    assert outcome("video_mmmu", "no idea") == "unparsable"
    assert outcome("video_mmmu", "1,297 = 12.970", NUMBER) == "right" and outcome("video_mmmu", "13", NUMBER) == "wrong"


def test_partial_credit_is_for_a_part_of_the_right_letters():
    for rule in ("partial", "tw_grpo"):
        assert told(rule, "<answer>B</answer>", SEVERAL) == Judgement("B", Outcome.WRONG, 0.5)
        assert told(rule, "<answer>A,B</answer>", SEVERAL).score == 0
    assert told("strict", "<answer>B</answer>", SEVERAL).score == 0


def test_labels_are_the_options_own_or_letters_in_their_order():
    assert labelled(("(B) b", "(A) a")) == {"B": "b", "A": "a"}
    assert labelled(("A. a", "A. b")) == {"A": "A. a", "B": "A. b"}
    assert labelled([*map(str, range(28))])["AB"] == "27"
    bodies = labelled(("A. E", "B. red", "E. A"))  # letters whose texts are letters too
    assert named_options("A", bodies) == ("A",) and named_options("option B", bodies) == ("B",)
    assert named_options("red", labelled(("A. red", "B. Red."))) == ("A", "B")
    assert named_options("A or B", bodies) == () and named_options("a", bodies) == ("E",)


def test_a_rule_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="rule=video_r2: .* did you mean video_r1"):
        rule_named("video_r2")
