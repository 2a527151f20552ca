"""The accuracy rule of each problem type, and what must not be rewarded."""

import pytest
import torch
from rouge_score.tokenizers import DefaultTokenizer

from ktr.errors import UnknownProblemType, UnreadableAnswer
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.comparisons import exact_match, folded_match
from ktr.rewards.composite import CompositeReward
from ktr.rewards.format import Format
from ktr.rewards.rouge_words import RougeWords


def tag(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("problem_type", "truth", "answer", "reward"),
    [
        ("multiple choice", "B", "B", 1.0),
        ("multiple choice", "B", " B\n", 1.0),
        ("multiple choice", "B", "b", 0.0),
        ("multiple choice", "B", "B.", 0.0),
        ("multiple choice", "B", "A, B", 0.0),
        ("multiple choice", "B", "Β", 0.0),  # a Greek capital beta
        ("numerical", "3", "3", 1.0),
        ("numerical", "3", "3.0", 0.0),
        ("numerical", "3.0", "3", 0.0),
        ("numerical", "3.14", "3.141", 1.0),
        ("numerical", "3.14", "3.15", 0.0),
        ("numerical", "1,234", "1,234", 1.0),
        ("numerical", "1,234", "1234", 0.0),
        ("numerical", "1,234", "1234.0", 1.0),
        ("numerical", "1.5", "１．５", 1.0),
        ("numerical", "3", "３．０", 0.0),
        ("numerical", "3", "three", 0.0),
        ("numerical", "3", "3 3", 0.0),
        ("numerical", "nan", "nan", 0.0),
        ("numerical", "inf", "inf", 0.0),
        ("OCR", "hello big world", "hello big world", 1.0),
        ("OCR", "hello big world", "hello world", 2 / 3),
        ("OCR", "stop", "stop stop stop", 0.0),
        ("OCR", "stop", "Stop", 0.0),
        ("OCR", "hello\nbig world", "hello big\tworld", 1.0),
        ("OCR", "hello big world", "hello\n\nbig", 2 / 3),
        ("regression", "10", "9", 0.9),
        ("regression", "10", "25", 0.0),
        ("regression", "-10", "-9", 0.9),
        ("regression", "0", "0.0", 1.0),
        ("regression", "0", "0.1", 0.0),
        ("regression", "10", "inf", 0.0),
        ("regression", "10", "nan", 0.0),
        ("regression", "1e-300", "1e300", 0.0),
        ("free-form", "the red ball", "the red ball", 1.0),
        ("free-form", "the red ball", "a blue cube", 0.0),
        ("free-form", "the red ball", "red ball", (0.8 + 2 / 3 + 0.8) / 3),
        ("free-form", "red", "red", 2 / 3),
        ("free-form", "runs", "running", 2 / 3),
    ],
)
def test_rules(problem_type, truth, answer, reward, make_group):
    group = make_group(tag(answer), answer=truth, problem_type=problem_type)
    torch.testing.assert_close(Accuracy()(group), torch.tensor([reward]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("problem_type", ["multiple choice", "numerical", "OCR", "regression", "free-form"])
@pytest.mark.parametrize("text", ["", "<answer></answer>", "<answer> </answer>", "7", "<answer>7", "<think>7</think>"])
def test_no_answer_earns_nothing(problem_type, text, make_group):
    assert Accuracy()(make_group(text, answer="7", problem_type=problem_type)).tolist() == [0.0]


def test_the_first_answer_counts_and_later_ones_do_not(make_group):
    group = make_group("<answer>A</answer><answer>B</answer>", "<answer>B</answer><answer>A</answer>")
    assert Accuracy()(group).tolist() == [0.0, 1.0]
    assert Accuracy(extraction="lenient")(group).tolist() == [1.0, 0.0]


def test_listing_all_options_earns_nothing(make_group):
    group = make_group("<answer>A B C D</answer>", "<answer>A</answer><answer>B</answer>", "(A) (B)")
    for extraction in ("strict", "video_r1"):
        assert Accuracy(extraction=extraction)(group).tolist() == [0.0] * 3


def test_a_text_without_tags_counts_only_where_the_rule_says_so(make_group):
    group = make_group("B")
    assert [Accuracy(rule)(group).item() for rule in ("strict", "video_r1", "lenient")] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "reward"), [("Red", 1.0), (" red.", 1.0), ("ｒｅｄ", 1.0), ("red ball", 0.0), ("re", 0.0), ("", 0.0)]
)
def test_exact_free_form_is_equality_after_folding(answer, reward, make_group):
    group = make_group(tag(answer), answer="red", problem_type="free-form")
    assert Accuracy(free_form="exact")(group).tolist() == [reward]


@pytest.mark.parametrize(
    ("answer", "reward"), [("10", 1.0), ("9.9", 1.0), ("9.4", 0.9), ("8", 0.6), ("5", 0.0), ("x", 0.0)]
)
def test_mean_relative_accuracy_counts_the_thresholds_passed(answer, reward, make_group):
    group = make_group(tag(answer), answer="10", problem_type="regression")
    assert Accuracy(regression="mra")(group).item() == pytest.approx(reward)


def test_permuting_the_completions_permutes_the_rewards(make_group):
    texts = [tag(answer) for answer in ("one two", "two", "one two three", "")]
    rewards = Accuracy()(make_group(*texts, answer="one two", problem_type="OCR"))
    permuted = Accuracy()(make_group(*texts[::-1], answer="one two", problem_type="OCR"))
    assert rewards.tolist() == permuted.tolist()[::-1] and len(set(rewards.tolist())) > 2


def test_a_problem_type_without_a_rule_is_a_typed_error(make_group):
    accuracy = Accuracy()
    del accuracy.rules["OCR"]
    with pytest.raises(UnknownProblemType, match="OCR"):
        accuracy(make_group("x", problem_type="OCR"))


def test_punctuation_alone_is_an_answer_of_its_own():
    assert folded_match("!", "?") == 0 and folded_match("!", "!") == 1 and folded_match("Red!", "red") == 1


def test_spaces_around_the_commas_between_several_answers_do_not_matter():
    assert exact_match("A, C", "A,C") == 1 and exact_match("A", "A,C") == exact_match("C,A", "A,C") == 0


@pytest.mark.parametrize(("answer", "problem_type"), [("?!", "free-form"), ("many", "numerical")])
def test_an_answer_that_scores_nothing_against_itself_is_unreadable(answer, problem_type, make_group):
    group = make_group("", answer=answer, problem_type=problem_type)
    with pytest.raises(UnreadableAnswer, match="row 1: the answer .* scores 0 against itself"):
        CompositeReward({"accuracy": Accuracy(), "format": Format()}).check(group.question)


def test_which_answers_are_unreadable_is_the_rule_s_to_say(make_group):
    Accuracy(free_form="exact").check(make_group("", answer="?!", problem_type="free-form").question)


WORDS = (
    "a red ball",
    "красный мяч",
    "红色",
    "紅い ボール",
    "빨간 공",
    "كرة حمراء",
    "लाल गेंद",
    "ลูกบอลสีแดง",
    "κόκκινη μπάλα",
    "ábč dé",
)
NUMBERS = ("1,000", "3.5%", "1e3", "-0.5", "½", "0", "−2", "１２", "1,234,567.8", "100 %", "+7")


@pytest.mark.parametrize("answer", WORDS)
def test_an_answer_in_any_script_scores_fully_against_itself(answer, make_group):
    for problem_type, accuracy in (
        ("free-form", Accuracy()),
        ("free-form", Accuracy(free_form="exact")),
        ("OCR", Accuracy()),
    ):
        assert accuracy(make_group(tag(answer), answer=answer, problem_type=problem_type)).item() == 1.0
    other = make_group(tag("XYZ"), answer=answer, problem_type="free-form")
    assert Accuracy()(other).item() == 0.0


@pytest.mark.parametrize("answer", NUMBERS)
def test_a_number_in_any_form_scores_fully_against_itself(answer, make_group):
    for problem_type, accuracy in (
        ("numerical", Accuracy()),
        ("regression", Accuracy()),
        ("regression", Accuracy(regression="mra")),
    ):
        assert accuracy(make_group(tag(answer), answer=answer, problem_type=problem_type)).item() == 1.0


@pytest.mark.parametrize("answer", ["B", "b", "A, C", "a,c"])
def test_letters_score_fully_against_themselves(answer, make_group):
    for rule in ("exact", "soft"):
        assert Accuracy(multiple_choice=rule)(make_group(tag(answer), answer=answer)).item() == 1.0


@pytest.mark.parametrize("problem_type", ["numerical", "regression"])
def test_percent_is_a_unit(problem_type, make_group):
    group = make_group(tag("50"), tag("0.5"), tag("50 %"), answer="50%", problem_type=problem_type)
    assert Accuracy()(group).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("红色 car running", ["红", "色", "car", "run"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("นี่", ["นี่"]),
        ("한국어, 말", ["한국어", "말"]),
        ("ＡＢＣ カ", ["abc", "カ"]),
        ("naïve_café", ["naïve", "café"]),
        ("😀 …", []),
    ],
)
def test_words_of_other_scripts_are_words_for_rouge(text, words):
    assert RougeWords().tokenize(text) == words


def test_words_of_ascii_text_are_those_of_rouge_score():
    text = "The 2 dogs' running-shoes, it's U.S.A. 3.14 _a_ flies FLYING\t$5"
    assert RougeWords().tokenize(text) == DefaultTokenizer(use_stemmer=True).tokenize(text)
