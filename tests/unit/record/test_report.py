"""report.html: builds for every kind of run, carries everything in itself, and takes no text for markup."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ktr.analysis import palette
from ktr.analysis.figures import draw_accuracy, draw_throughput, draw_training
from ktr.analysis.filmstrip import HEIGHT, filmstrip, strip_name, write_filmstrips
from ktr.analysis.report import write_report
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.shown_questions import choose_questions
from ktr.analysis.shown_tokens import shown_tokens
from ktr.analysis.upset import draw_combinations
from ktr.errors import MissingData
from ktr.record.json_file import write_object
from ktr.record.token_records import Record, append_records
from ktr.report import main

from .conftest import make_records

ALL = ("entropy", "visual", "temporal")
SECTIONS = {
    "Accuracy before and after",
    "Training",
    "What the signals select",
    "Signals against ground truth",
    "Completions",
    "Interventions",
    "Throughput",
    "Record of the run",
}


@pytest.mark.parametrize(
    ("signals", "truth", "missing"),
    [
        (ALL, True, set()),
        (ALL, False, {"Signals against ground truth"}),
        (("entropy",), True, set()),
        ((), False, {"What the signals select", "Signals against ground truth"}),
    ],
    ids=["three signals", "no ground truth", "one signal", "no signal"],
)
def test_a_report_shows_what_its_run_has_and_nothing_else(make_run, signals, truth, missing):
    page = write_report(make_run(signals, truth)).read_text()
    assert set(re.findall(r"<h2>(.*?)</h2>", page)) == SECTIONS - missing


def test_a_report_is_self_contained_and_takes_no_text_for_markup(make_run):
    page = write_report(make_run(ALL, truth=True)).read_text()
    sources = re.findall(r"""(?:src|href)="(.{22})""", page)
    assert sources and set(sources) == {"data:image/png;base64,"}
    assert not re.search(r"<script|<link|@import|url\(|https?:", page)
    assert "&lt;i&gt;q1&lt;/i&gt;" in page and "<i>q1" not in page  # the question
    assert "red &amp; &lt;blue&gt;" in page and "<blue>" not in page  # the answer
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page  # a token
    assert "&lt;/pre&gt;&lt;script&gt;" in page  # the config


def test_the_report_of_an_evaluation_has_its_accuracy(tmp_path):
    answers = {
        "greedy": {"accuracy": 0.8, "n": 40, "format": 1.0, "by_category": {"order": {"accuracy": 0.5, "n": 10}}}
    }
    write_object(tmp_path / "summary.json", {"name": "held-out", "accuracy": answers})
    page = write_report(tmp_path).read_text()
    assert (
        "<h2>Accuracy</h2>" in page and "80.0\u00a0% (65.2" in page and (tmp_path / "figures" / "accuracy.png").exists()
    )


def test_a_report_shows_no_secret_of_its_config(make_run):
    run_dir = make_run(ALL, truth=True)
    (run_dir / "config.yaml").write_text("seed: 7\nreward: {rewards: {mine: {api_key: hush, name: Größe}}}\n")
    page = write_report(run_dir).read_text()
    assert "hush" not in page and "seed: 7" in page and "Größe" in page


def test_a_report_needs_the_run_folder_alone(make_run, tmp_path):
    run_dir = make_run(ALL, truth=True)
    first = write_report(run_dir).read_bytes()
    moved = tmp_path / "elsewhere" / run_dir.name
    moved.parent.mkdir()
    run_dir.rename(moved)
    assert write_report(moved).read_bytes() == first


def test_a_run_that_was_cut_off_has_a_report(make_run):
    run_dir = make_run(ALL)
    (run_dir / "summary.json").unlink()
    assert "Accuracy before and after" not in write_report(run_dir).read_text()


def bar_widths(figure: Figure) -> list[float]:
    return [bar.get_width() for bar in figure.axes[-1].patches if isinstance(bar, Rectangle)]


def test_seconds_by_part_are_means_over_all_steps_and_a_variance_is_no_loss(make_run):
    run = RunFolder.read(make_run(ALL))
    steps = list(range(1, 11))
    timings = {"time/update_seconds": (steps, [1.0] * 10), "time/rollout_seconds": ([1], [3.0])}
    figure = draw_throughput(replace(run, timings=timings))
    assert figure is not None
    assert sorted(bar_widths(figure)) == pytest.approx([0.3, 1.0])
    losses = {name: (steps, [value] * 10) for value, name in enumerate(("loss/variance", "loss/total", "loss/kl"), 1)}
    figure = draw_training(replace(run, metrics=losses))
    assert figure is not None
    assert sorted(str(line.get_label()) for line in figure.axes[0].lines) == ["kl", "total"]


def test_seconds_by_part_are_means_over_all_steps_where_few_are_logged(make_run):
    run = RunFolder.read(make_run())
    timings = {
        "time/update_seconds": ([50, 100], [2.0, 4.0]),
        "time/gradients_seconds": ([*range(1, 101, 10)], [5.0] * 10),
    }
    figure = draw_throughput(replace(run, timings=timings, config="trainer: {log_every_n_steps: 50}"))
    assert figure is not None
    assert bar_widths(figure) == pytest.approx([3.0, 0.5])


def test_sampled_answers_are_called_by_their_temperature_where_it_is_known(make_run):
    run_dir = make_run()
    assert "sampled at T" not in write_report(run_dir).read_text()
    (run_dir / "config.yaml").write_text("answers: {greedy: {temperature: 0.0}, sampled: {temperature: 0.7}}")
    assert "<td>sampled at T = 0.7</td>" in write_report(run_dir).read_text()
    figure = draw_accuracy(RunFolder.read(run_dir))
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["sampled at T = 0.7", "greedy"]


def test_times_are_those_of_the_process_that_ended_the_run(make_run):
    run_dir = make_run()
    times = {
        "training_wall_seconds": 60.0,
        "training_cpu_seconds": 120.0,
        "wall_seconds": 180.0,
        "tokens_per_second": 9.0,
    }
    summary, record = (json.loads((run_dir / name).read_text()) for name in ("summary.json", "record.json"))
    write_object(run_dir / "summary.json", summary | times)

    def cards() -> list[tuple[str, str]]:
        page = write_report(run_dir).read_text()
        found = re.findall(r'class="label">(.*?)</div>.*?class="detail">(.*?)</div>', page)
        return [card for card in found if re.match("training|throughput", card[0])]

    assert cards() == [("training", "2.0 CPU-minutes · all in all 3.0 min"), ("throughput", "")]
    write_object(run_dir / "record.json", record | {"resumed": [record | {"step": 2, "ranks": 4}]})
    trained = ("training, from step 2", "2.0 CPU-minutes · rank 0 of 4 · all in all 3.0 min")
    assert cards() == [trained, ("throughput, from step 2", " · rank 0 of 4")]


def test_a_folder_without_a_run_is_refused_by_name(tmp_path, capsys):
    with pytest.raises(MissingData, match=r"metrics\.csv"):
        write_report(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_command_prints_the_path_of_each_report(make_run, capsys):
    run_dir = make_run()
    assert main([str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'report.html'}\n"


def test_the_pages_of_a_run_and_of_several_include_which_words_were_selected(make_run, tmp_path, capsys):
    unscored = make_run(()).rename(tmp_path / "unscored")
    run_dir = make_run(ALL, truth=True)
    assert main(["run", str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'words.html'}\n{run_dir / 'report.html'}\n"
    assert '<a href="words.html">' in (run_dir / "report.html").read_text()
    (run_dir / "words.html").unlink()
    output = tmp_path / "both.html"
    assert main(["compare", str(run_dir), str(unscored), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'words.html'}\n{output}\n"


def test_only_as_many_combinations_of_signals_are_drawn_as_there_is_room_for():
    upper, lower = Figure().subplots(2)
    draw_combinations(upper, lower, {("visual", f"other {at}"): 1 / (1 + at) for at in range(40)})
    assert [bar.get_height() for bar in upper.patches if isinstance(bar, Rectangle)] == [
        1 / (1 + at) for at in range(12)
    ]
    assert len(lower.get_yticklabels()) == 13


def test_each_signal_has_its_own_fixed_colour():
    colors = palette.signal_colors(["temporal", "entropy", "visual", "other"])
    assert colors == palette.SIGNALS | {"other": palette.OTHER_SIGNALS[0]}
    assert len(set(colors.values())) == 4
    assert palette.tint("#ff8000", 0.5) == "rgba(255,128,0,0.5)"


def test_a_token_wears_the_colours_of_exactly_the_signals_that_select_it():
    tokens = shown_tokens(make_records(ALL, 1, with_roles=True)[0], ALL)
    tints = {signal: palette.tint(color, 0.32) for signal, color in palette.SIGNALS.items()}
    wearing = [{signal for signal, tint in tints.items() if tint in style} for _, style, _ in tokens]
    assert wearing == [{"entropy", "visual"}, set(ALL), set(), {"temporal"}, set(), set(), set()]


def test_a_token_wears_the_colours_of_the_legend_whatever_signals_its_record_has(make_run):
    run_dir = make_run(("zeta", "alpha"))
    append_records(run_dir / "rollouts.jsonl", make_records(("zeta",), 9, with_roles=False))
    page = write_report(run_dir).read_text()
    tints = [palette.tint(color, 0.32) for color in palette.signal_colors(["alpha", "zeta"]).values()]
    styles = re.findall(r'<span class="token" style="([^"]*)"( title)?', page)
    assert [[tint in style for tint in tints] for style, title in styles if not title][:2] == [
        [True, False],
        [False, True],
    ]
    worn = [style for style, title in styles if title]
    assert worn and all([tint in style for tint in tints] == [False, True] for style in worn)


def test_pairs_of_signals_are_called_by_their_names(make_run):
    page = write_report(make_run(("visual", "visual_kl"), truth=True)).read_text()
    assert re.search(r"Jaccard index of the selected sets: visual and visual_kl \d", page)


def test_a_token_is_underlined_by_its_true_role_and_tells_its_scores():
    tokens = shown_tokens(make_records(ALL, 1, with_roles=True)[0], ALL)
    underlined = [re.search(r"border-bottom:2px solid (#\w+)", style) for _, style, _ in tokens]
    expected = ["decision", "order_motion", None, "order_motion", None, "appearance", None]
    assert [match and match.group(1) for match in underlined] == [role and palette.ROLES[role] for role in expected]
    assert re.search(r"visual 1\.\d{3} · selected", tokens[0][2]) and "truth: order or motion" in tokens[1][2]


def test_shown_questions_take_turns_over_categories_with_best_and_worst_answer():
    records = [
        {**record, "category": category}
        for name, category in (("a", "nth"), ("b", "nth"), ("c", "color"))
        for record in make_records((), 1, with_roles=False, name=name)
    ]
    chosen = choose_questions(records, limit=2)
    assert [group[0]["question"] for group in chosen] == ["a", "c"]
    assert [record["reward"] for record in chosen[0]] == [2, 1]


def test_training_shows_first_what_was_learned_from(make_run):
    run_dir = make_run(ALL)
    for name in "abc":
        append_records(run_dir / "rollouts.jsonl", make_records((), 9, with_roles=False, name=name))
    append_records(run_dir / "rollouts.jsonl", make_records(ALL, 9, with_roles=False, name="learned"))
    page = write_report(run_dir).read_text()
    assert 0 < page.index("&gt;learned&lt;") < page.index("&gt;a&lt;") and "&gt;c&lt;" not in page


def test_a_filmstrip_puts_the_frames_side_by_side():
    frames_FHWC = torch.full((3, 36, 72, 3), 9, dtype=torch.uint8).numpy()
    strip = filmstrip(frames_FHWC)
    assert strip.shape == (HEIGHT, 3 * 144 + 2 * 3, 3)
    assert (strip[:, 144:147] == 255).all() and (strip[:, :144] == 9).all()


IDS = [("甲", "乙"), ("a b", "a-b"), ("x" * 300 + "1", "x" * 300 + "2"), ("a/../b", "../a"), ("11", "11")]


@pytest.mark.parametrize("ids", IDS)
def test_each_question_has_a_filmstrip_of_its_own_whatever_its_id(tmp_path, ids):
    records: list[Record] = []
    for color, name in enumerate(ids):
        Image.new("RGB", (8, 8), (9 + 90 * color, 0, 0)).save(tmp_path / f"{color}.png")
        records.append({"question": name, "media": str(tmp_path / f"{color}.png"), "data_type": "image"})
    strips = write_filmstrips(tmp_path, records)
    files = [strips[strip_name(record)][0] for record in records]
    assert [np.asarray(Image.open(file))[0, 0, 0] for file in files if file is not None] == [9, 99]
    assert {file and file.parent for file in files} == {tmp_path} and write_filmstrips(tmp_path, records) == strips


def test_a_held_out_and_a_training_question_of_one_id_are_shown_with_their_own_media(make_run, tmp_path):
    run_dir = make_run()
    (run_dir / "rollouts.jsonl").unlink()
    for color, name in ((9, "attribution"), (99, "rollouts")):
        Image.new("RGB", (8, 8), (color, 0, 0)).save(picture := tmp_path / f"{name}.png")
        medium = {"media": str(picture), "data_type": "image"}
        append_records(run_dir / f"{name}.jsonl", [record | medium for record in make_records((), 1, with_roles=False)])
    page = write_report(run_dir).read_text()
    shown = [b64decode(data) for data in re.findall(r'base64,([^"]*)" alt="[^"]*" class="filmstrip"', page)]
    assert [np.asarray(Image.open(BytesIO(data)))[0, 0, 0] for data in shown] == [9, 99]


def test_filmstrips_are_called_after_their_question(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    record = {"question": "q-1", "media": [str(tmp_path / "a.png")] * 2, "data_type": ["image"] * 2}
    name = strip_name(record)
    assert name.startswith("q-1-")
    files = [tmp_path / f"filmstrip-{name}.png", tmp_path / f"filmstrip-{name}.2.png"]
    assert write_filmstrips(tmp_path, [record]) == {name: files}


def test_the_last_training_step_is_the_one_that_is_shown(make_run):
    run_dir = make_run(num_steps=4)
    append_records(run_dir / "rollouts.jsonl", make_records((), 9, with_roles=False, name="latest"))
    page = write_report(run_dir).read_text()
    assert "Training, step 9" in page and "&gt;latest&lt;" in page and "&gt;q1&lt;" not in page


def test_a_damaged_file_of_a_run_is_one_sentence_with_the_remedy(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_text("step\n")
    (tmp_path / "summary.json").write_text('{"accuracy_after": {')
    assert main([str(tmp_path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{tmp_path / 'summary.json'}: cannot be read") and "run it again" in said


def test_a_damaged_config_is_named(make_run):
    run_dir = make_run()
    (run_dir / "config.yaml").write_text("answers: [")
    with pytest.raises(MissingData, match=r"config\.yaml: cannot be read"):
        RunFolder.read(run_dir).called("greedy")
