"""A benchmark asked of a served model, from the command line to its results: it goes on, and tells no secret."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from ktr.config import requirements
from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.search_path import CONF
from ktr.errors import ConfigError, EndpointError, MissingExtra, SpendingLimit
from ktr.evaluation.benchmark_run import ask_benchmark
from tests.unit.evaluation.asking.fake_endpoint import Answer, FakeEndpoint, Says, fault, says, text_of

KEY = "hush-0123456789"
NUM_ITEMS = 12
ENDPOINTS = sorted(file.stem for file in (CONF / "endpoint").glob("*.yaml") if file.stem != "none")
Run = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Questions about a picture; the right answer is B."""
    Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    row = {"data_type": "image", "problem_type": "multiple choice", "options": ["A. x", "B. y"], "path": "p.png"}
    row |= {"solution": "<answer>B</answer>"}
    content = [row | {"problem_id": str(number), "problem": f"Number {number}?"} for number in range(NUM_ITEMS)]
    (tmp_path / "rows.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def run(rows: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Asks the rows, the command line checked as a user's is; the lines by item."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which is not asked
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    servers: list[FakeEndpoint] = []

    def ask(answer: Answer, *given: str) -> dict[str, dict[str, Any]]:
        servers.append(FakeEndpoint(answer))
        own = [f"benchmark.annotations={rows}/rows.json", f"benchmark.media_root={rows}", f"paths.runs={rows}/runs"]
        own += [
            "endpoint=openai",
            "endpoint.model=gpt-4o",
            f"endpoint.base_url={servers[-1].url}",
            "endpoint.retries=0",
        ]
        (config,) = check_command_line("evaluate", ["benchmark=own", "name=run", *own, *given])
        OmegaConf.resolve(config)
        ask_benchmark(config)
        return lines(rows)

    yield ask
    for server in servers:
        server.end()


def lines(rows: Path) -> dict[str, dict[str, Any]]:
    text = (rows / "runs" / "run" / "items.jsonl").read_text()
    return {line["id"]: line for line in map(json.loads, text.splitlines())}


def right(request: dict[str, Any]) -> Says:
    return says("<answer>B</answer>")


def test_a_run_that_stops_at_its_limit_goes_on_and_its_key_is_nowhere(
    run: Run, rows: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    few = ["endpoint.max_concurrency=1", "endpoint.num_decoders=1"]
    with pytest.raises(SpendingLimit) as raised:
        run(right, "endpoint.spending_limit=0.0175", *few)
    first = lines(rows)
    assert 5 <= len(first) < NUM_ITEMS and {line["outcome"] for line in first.values()} == {"right"}
    with pytest.raises(EndpointError) as refused:
        run(lambda _: fault(401, f"Wrong key: {KEY}"))
    asked = []
    second = run(lambda request: asked.append(text_of(request)) or right(request))
    assert len(second) == NUM_ITEMS and len(asked) == NUM_ITEMS - len(first) and first.items() <= second.items()
    results = json.loads((rows / "runs" / "run" / "results.json").read_text())
    assert results["summary"]["n"] == NUM_ITEMS and results["cost"] == pytest.approx(0.0035 * NUM_ITEMS)
    assert results["identity"]["endpoint"]["model"] == "gpt-4o" and "base_url" not in results["identity"]["endpoint"]
    assert "template" not in results["identity"]["endpoint"] and results["prompt_tokens"] == 1000 * NUM_ITEMS
    written = [file.read_bytes() for file in (rows / "runs").rglob("*") if file.is_file()]
    told = "".join((*capfd.readouterr(), caplog.text, str(raised.value), repr(refused.value)))
    assert len(written) > 4 and KEY not in told and not any(KEY.encode() in content for content in written)


def test_failed_items_are_asked_again_in_the_same_folder_at_any_pace_and_of_the_same_model(run: Run):
    def one_fails(request: dict[str, Any]) -> Says:
        return fault(500, "no") if "Number 3?" in text_of(request) else right(request)

    assert run(one_fails)["3"]["outcome"] == "failed"
    pace = ["endpoint.max_concurrency=2", "endpoint.spending_limit=9", "endpoint.n_per_request=1"]
    assert {line["outcome"] for line in run(right, "retry_failed=true", *pace).values()} == {"right"}
    with pytest.raises(ConfigError, match=r'endpoint\.model: "gpt-4o" and "gpt-5"'):
        run(right, "endpoint.model=gpt-5")


def test_media_that_were_missing_or_broken_are_asked_about_once_they_are_there(run: Run, rows: Path):
    content, picture = json.loads((rows / "rows.json").read_text()), (rows / "p.png").read_bytes()
    content[1]["path"], content[2]["path"] = "lost.png", "broken.png"
    (rows / "rows.json").write_text(json.dumps(content[:3]))
    (rows / "broken.png").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    first = run(right, "benchmark.allow_missing=true")
    assert [line["outcome"] for line in first.values()] == ["right", "media_missing", "media_missing"]
    (rows / "lost.png").write_bytes(picture)
    (rows / "broken.png").write_bytes(picture)
    asked: list[str] = []
    for given, outcomes in (("false", ["right", "right", "media_missing"]), ("true", ["right"] * 3)):
        found = run(
            lambda request: asked.append(text_of(request)) or right(request),
            "benchmark.allow_missing=true",
            f"retry_failed={given}",
        )
        assert [line["outcome"] for line in found.values()] == outcomes
    assert ["Number 1?" in asked[0], "Number 2?" in asked[1], len(asked)] == [True, True, 2]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"problem_type": "regression", "options": None}, 'problem_type: "numerical" and "regression"'),
        ({"answer": "y"}, 'written: "" and "y"'),
        ({"path": "q.png"}, 'video: "p" and "q"'),
        ({"path": "there/p.png"}, None),
    ],
)
def test_a_row_that_has_changed_since_is_refused(run: Run, rows: Path, changed: dict[str, Any], told: str | None):
    (first, *_) = json.loads((rows / "rows.json").read_text())
    first |= {"problem_type": "numerical", "options": None, "solution": "3"} if "regression" in str(changed) else {}
    (rows / "there").mkdir()
    for place in ("q.png", "there/p.png"):
        (rows / place).write_bytes((rows / "p.png").read_bytes())
    (rows / "rows.json").write_text(json.dumps([first]))
    run(right)
    (rows / "rows.json").write_text(json.dumps([first | changed]))
    if told is None:
        run(lambda _: pytest.fail("it is asked again"))
        return
    with pytest.raises(ConfigError) as refused:
        run(right)
    assert told in str(refused.value)


def test_a_judged_run_does_not_go_on_without_its_judge(run: Run, rows: Path):
    run(right)
    file = rows / "runs" / "run" / "items.jsonl"
    file.write_text("".join(json.dumps(line | {"judged_by": "gpt"}) + "\n" for line in lines(rows).values()))
    with pytest.raises(ConfigError, match="holds items that gpt judged"):
        run(right)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_composes_without_a_policy_and_instantiates(name: str, tmp_path: Path):
    given = [
        f"endpoint={name}",
        "endpoint.model=m",
        "benchmark=shapes",
        "model.path=/nowhere",
        f"paths.cache={tmp_path}",
    ]
    (config,) = check_command_line("evaluate", given)
    answers = instantiate(config.endpoint)
    assert answers.form.model == "m" and answers.sender.reader.settings == instantiate(config.video)
    assert answers.form.template.instruction == config.prompt.instruction
    with pytest.raises(ConfigError, match=r"endpoint\.model has no value"):
        check_command_line("evaluate", [f"endpoint={name}", "benchmark=shapes"])


def test_how_fast_and_how_dear_is_no_part_of_a_run_s_name():
    chosen = ["benchmark=shapes", "endpoint=openai", "endpoint.model=gpt-5"]
    plain = compose("evaluate", chosen).name
    further = [
        "endpoint.spending_limit=5",
        "endpoint.max_concurrency=2",
        "endpoint.base_url=http://h/v1",
        "num_decoders=1",
    ]
    assert plain == compose("evaluate", [*chosen, *further, "retry_failed=true"]).name and "gpt-5" in plain
    assert plain != compose("evaluate", [*chosen, "endpoint.frames_as=video"]).name


def test_an_endpoint_needs_a_benchmark_and_its_extra(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="give benchmark=…"):
        check_command_line("evaluate", ["endpoint=openai", "endpoint.model=m"])
    with pytest.raises(ConfigError, match=r"endpoint\.max_concurency: did you mean endpoint\.max_concurrency"):
        check_command_line("evaluate", ["endpoint=openai", "endpoint.max_concurency=1", "benchmark=shapes"])
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"openai is not installed: pip install 'ktr\[api\]'"):
        check_command_line("evaluate", ["endpoint=openai", "endpoint.model=m", "benchmark=shapes"])
