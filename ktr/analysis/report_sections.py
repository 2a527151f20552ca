"""The sections of report.html, top to bottom. Each is empty where the run has no data for it."""

from collections.abc import Iterable, Mapping
from typing import Any

from ktr.analysis.markup import Child, Markup, element, table
from ktr.analysis.run_folder import RunFolder

NOTHING = Markup("")
WAYS = {"sampled": "sampled at T = 1", "greedy": "greedy"}


def section(title: str, *children: Child) -> Markup:
    return element("section", element("h2", title), *children)


def headline(run: RunFolder) -> Markup:
    """The run's name, what it trained, and its main figures as cards."""
    summary = run.summary
    facts = [str(summary[key]) for key in ("algorithm",) if key in summary]
    signals = summary.get("attribution", {}).get("name")
    facts += [f"signals {signals}"] if signals else []
    facts += [f"seed {summary['seed']}"] if "seed" in summary else []
    facts += [f"{summary['num_updates']} updates"] if "num_updates" in summary else []
    facts += [run.record["started"].replace("T", " ").replace("+00:00", " UTC")] if "started" in run.record else []
    cards = [*_accuracy_cards(run), *_attribution_cards(run.summary.get("attribution", {})), *_cost_cards(summary)]
    return element(
        "header",
        element("h1", run.name),
        element("p", " · ".join(facts), class_="subtitle"),
        element("div", *cards, class_="cards"),
    )


def accuracy(run: RunFolder, images: Mapping[str, Markup]) -> Markup:
    """Accuracy before and after, in total and by category."""
    if "accuracy" not in images:
        return NOTHING
    rows = []
    for way, label in WAYS.items():
        before, after = run.accuracy("before", way), run.accuracy("after", way)
        for name in {**after, **before}:
            shown = label if name == "all" else f"\N{EM SPACE}{name}"
            rows.append(_accuracy_row(shown, before.get(name, {}), after.get(name, {})))
    columns = ("answers", "n", "before", "after", "change", "format before", "format after")
    detail = element("details", element("summary", "The numbers, by category"), table(columns, rows))
    note = "Held-out questions. Bars are 95 % Wilson intervals."
    return section("Accuracy before and after", images["accuracy"], element("p", note, class_="note"), detail)


def training(images: Mapping[str, Markup]) -> Markup:
    if "training" not in images:
        return NOTHING
    note = "Faint: each step. Strong: mean of the last steps (a tenth of the run, 5 to 20 steps)."
    return section("Training", images["training"], element("p", note, class_="note"))


def selection(run: RunFolder, images: Mapping[str, Markup]) -> Markup:
    """What the signals select, and how much their sets overlap."""
    if "selection" not in images:
        return NOTHING
    measured = run.summary.get("attribution", {})
    overlaps = [(pair.replace("_", " and "), f"{value:.2f}") for pair, value in measured.get("overlap", {}).items()]
    text = "Jaccard index of the selected sets: " + ", ".join(f"{pair} {value}" for pair, value in overlaps) + "."
    note = element("p", text, class_="note") if overlaps else NOTHING
    return section("What the signals select", images["selection"], note)


def ground_truth(run: RunFolder, images: Mapping[str, Markup]) -> Markup:
    if "ground_truth" not in images:
        return NOTHING
    note = (
        "The world knows what each word of a held-out completion depends on: how something looks, order or motion, a "
        "decision, the text before, or nothing. AUROC is the chance that a word that should score high outscores one "
        "that should not; 0.5 is blind. Decisions are left out for the visual and the temporal signal."
    )
    return section("Signals against ground truth", images["ground_truth"], element("p", note, class_="note"))


def interventions(run: RunFolder) -> Markup:
    """What breaks the trained policy, and what doesn't."""
    measured: Mapping[str, Any] = run.summary.get("interventions", {})
    if not measured:
        return NOTHING
    rows = []
    for name, entry in measured.items():
        if entry["accuracy"] is None:  # no question that it applies to
            continue
        baseline = entry.get("baseline")
        change = _points(entry["accuracy"] - baseline) if baseline is not None else ""
        usual = _percent(baseline) if baseline is not None else ""
        rows.append((name.replace("_", " "), str(entry.get("n", "")), usual, _with_interval(entry), change))
    chance = run.summary.get("chance")
    note = element("p", f"Chance is {_percent(chance)}.", class_="note") if chance is not None else NOTHING
    return section("Interventions", table(("intervention", "n", "as it is", "intervened", "change"), rows), note)


def throughput(run: RunFolder, images: Mapping[str, Markup]) -> Markup:
    return section("Throughput", images["throughput"]) if "throughput" in images else NOTHING


def record(run: RunFolder) -> Markup:
    """Skips, versions, machine, command line, and the resolved config."""
    facts, machine, git = run.record, run.record.get("machine", {}), run.record.get("git")
    rows: list[tuple[str, str]] = []
    if facts:
        commit = f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else "not in a git repository"
        rows = [
            ("command", " ".join(facts["argv"])),
            ("started", facts["started"] + (f", resumed {len(facts['resumed'])}×" if facts.get("resumed") else "")),
            ("commit", commit),
            ("seed", str(facts["seed"])),
            ("machine", f"{machine['cpu']}, {machine['cpu_count']} CPUs, {machine['torch_threads']} torch threads"),
            ("GPUs", ", ".join(machine["gpus"]) or "none"),
            ("system", f"{facts['platform']}, Python {facts['python']}"),
            ("packages", ", ".join(f"{name} {number}" for name, number in facts["packages"].items())),
        ]
    if "skips" in run.summary:
        skips = ", ".join(f"{kind}: {count}" for kind, count in run.summary["skips"].items())
        rows.append(("skipped questions", skips or "none"))
    if not rows and not run.config:
        return NOTHING
    config = element("details", element("summary", "config.yaml"), element("pre", run.config or "not kept"))
    body = element("tbody", *(element("tr", element("td", key), element("td", value)) for key, value in rows))
    return section("Record of the run", element("table", body, class_="plain"), config)


def _accuracy_cards(run: RunFolder) -> Iterable[Markup]:
    for way in WAYS:
        before, after = run.accuracy("before", way).get("all"), run.accuracy("after", way).get("all")
        if before and after:
            gain = _points(after["accuracy"] - before["accuracy"])
            detail = f"{gain} points · n = {after['n']} · format {_percent(after['format'])}"
            value = [element("small", f"{_percent(before['accuracy'])} → "), _percent(after["accuracy"])]
            yield _card(f"accuracy, {way}", value, detail)
        elif entry := before or after:
            yield _card(f"accuracy, {way}", [_percent(entry["accuracy"])], f"n = {entry['n']}")


def _attribution_cards(measured: Mapping[str, Any]) -> Iterable[Markup]:
    if measured.get("visual_auroc") is not None:
        yield _card("visual AUROC", [f"{measured['visual_auroc']:.3f}"], "content words against the rest")
    if measured.get("temporal_auroc") is not None:
        specific = measured.get("temporal_specificity")
        detail = "order and motion against the rest" if specific is None else f"{specific:.3f} against looks"
        yield _card("temporal AUROC", [f"{measured['temporal_auroc']:.3f}"], detail)
    if measured.get("union_fraction") is not None:
        yield _card("tokens selected", [_percent(measured["union_fraction"])], "by at least one signal")


def _cost_cards(summary: Mapping[str, Any]) -> Iterable[Markup]:
    if "training_wall_seconds" in summary:
        minutes = [summary[key] / 60 for key in ("training_cpu_seconds", "wall_seconds")]
        detail = f"{minutes[0]:.1f} CPU-minutes · all in all {minutes[1]:.1f} min"
        yield _card("training", [f"{summary['training_wall_seconds'] / 60:.1f}", element("small", " min")], detail)
    if "tokens_per_second" in summary:
        questions = f"{summary['questions_per_second']:.2f} questions/s" if "questions_per_second" in summary else ""
        yield _card("throughput", [f"{summary['tokens_per_second']:,.0f}", element("small", " tokens/s")], questions)


def _card(label: str, value: list[str], detail: str) -> Markup:
    return element(
        "div",
        element("div", label, class_="label"),
        element("div", *value, class_="value"),
        element("div", detail, class_="detail"),
        class_="card",
    )


def _accuracy_row(label: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    change = _points(after["accuracy"] - before["accuracy"]) if before and after else ""
    formats = [_percent(entry["format"]) if "format" in entry else "" for entry in (before, after)]
    return label, str((after or before)["n"]), _with_interval(before), _with_interval(after), change, *formats


def _with_interval(entry: Mapping[str, Any]) -> str:
    if not entry:
        return ""
    interval = f" ({100 * entry['low']:.1f} to {100 * entry['high']:.1f})" if "low" in entry else ""
    return _percent(entry["accuracy"]) + interval


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _points(change: float) -> str:
    return f"{100 * change:+.1f}".replace("-", "−")
