"""Which signals find the words that they should: each against the ground truth of the embedded worlds.

The records are those of ``python -m ktr.attribute attribution=every_option output=null``, or of any run with roles. A
signal is held to each question that it might answer, whatever its name says it is about (``TARGETS``). Intervals, and
those of differences, are percentiles of a bootstrap over questions; all signals are drawn with the same questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.attribution_summary import POSITIVE_ROLES, UNSETTLED
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.analysis.words.bootstrap import ratios
from ktr.errors import MissingData
from ktr.record.json_file import write_object, write_whole
from ktr.record.token_records import ROLES, Record, read_records

DRAWS, SEED, CONFIDENCE = 200, 0, 0.95
MIN_QUESTIONS = 2
# What is asked of a signal: (roles that it should score high, roles that it should score low).
_SEEN, _IN_ORDER = POSITIVE_ROLES["visual"], POSITIVE_ROLES["temporal"]
_SETTLED = tuple(role for role in ROLES if role not in UNSETTLED)
TARGETS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "seen": (_SEEN, tuple(role for role in _SETTLED if role not in _SEEN)),
    "in order": (_IN_ORDER, tuple(role for role in _SETTLED if role not in _IN_ORDER)),
    "order, not looks": (_IN_ORDER, ("appearance",)),
    "decided": (UNSETTLED, _SETTLED),
}
# The target by which options of a signal are judged: the one that its name begins with.
JUDGED_BY = {"visual": "seen", "temporal": "order, not looks", "entropy": "decided"}


@dataclass(frozen=True)
class Tokens:
    """All labelled tokens of some records: T of them, of ``num_questions``; scores and selection for each signal."""

    scores: Mapping[str, Float[np.ndarray, " T"]]
    selected: Mapping[str, Bool[np.ndarray, " T"]]
    role_T: Int[np.ndarray, " T"]
    question_T: Int[np.ndarray, " T"]
    num_questions: int


def write_specificity(run_dir: Path) -> tuple[str, Path]:
    """The tables as text, and the path of specificity.md, with .json and .png beside it. Raises ``MissingData``."""
    tokens = labelled_tokens(list(read_records(run_dir / "attribution.jsonl")), run_dir)
    found = specificity(tokens)
    text = "\n".join(_lines(found)) + "\n"
    write_object(run_dir / "specificity.json", found)
    with matplotlib.rc_context(STYLE):
        _draw(found).savefig(run_dir / "specificity.png")
    write_whole(run_dir / "specificity.md", text)
    return text, run_dir / "specificity.md"


def labelled_tokens(records: Sequence[Record], source: Path) -> Tokens:
    """The tokens of the records that have roles. Raises ``MissingData`` where none has, or too few questions do."""
    records = [record for record in records if "roles" in record and record["scores"]]
    questions = {name: at for at, name in enumerate(dict.fromkeys(record["question"] for record in records))}
    if len(questions) < MIN_QUESTIONS:
        raise MissingData(
            f"{source}: attribution.jsonl has {len(questions)} questions with scores and roles, and {MIN_QUESTIONS} "
            "are needed: only the embedded worlds have roles; run `python -m ktr.attribute attribution=every_option`"
        )
    signals = [name for name in records[0]["scores"] if all(name in record["scores"] for record in records)]
    chosen = {
        name: [np.isin(np.arange(len(r["tokens"])), r["selected"].get(name, ())) for r in records] for name in signals
    }
    return Tokens(
        scores={name: np.concatenate([record["scores"][name] for record in records]) for name in signals},
        selected={name: np.concatenate(parts) for name, parts in chosen.items()},
        role_T=np.array([ROLES.index(role) for record in records for role in record["roles"]]),
        question_T=np.repeat([questions[r["question"]] for r in records], [len(r["tokens"]) for r in records]),
        num_questions=len(questions),
    )


def specificity(tokens: Tokens, draws: int = DRAWS, seed: int = SEED) -> dict[str, Any]:
    """By signal: AUROC and average precision of each target, and the share of each role's tokens that it selects.

    Each entry holds ``value``, ``low`` and ``high``; an AUROC also ``difference`` from the signal that the first word
    of the name names, where that is another. A target of which one side does not occur is left out.
    """
    drawn_RQ = _drawn(tokens.num_questions, draws, seed)
    auroc: dict[str, dict[str, Float[np.ndarray, " R"]]] = {name: {} for name in tokens.scores}
    found: dict[str, Any] = {name: {"auroc": {}, "average_precision": {}} for name in tokens.scores}
    for target, (positive, negative) in TARGETS.items():
        positive_T, negative_T = (
            np.isin(tokens.role_T, [ROLES.index(r) for r in roles]) for roles in (positive, negative)
        )
        if not positive_T.any() or not negative_T.any():
            continue
        kept_T = positive_T | negative_T
        for name, scores_T in tokens.scores.items():
            auroc_R, precision_R = ranking(scores_T[kept_T], positive_T[kept_T], tokens.question_T[kept_T], drawn_RQ)
            auroc[name][target] = auroc_R
            found[name]["auroc"][target] = _interval(auroc_R)
            found[name]["average_precision"][target] = _interval(precision_R)
            base = name.partition("_")[0]
            if base != name and target in auroc.get(base, {}):
                found[name]["auroc"][target]["difference"] = _interval(auroc_R - auroc[base][target])
    for name, chosen_T in tokens.selected.items():
        found[name]["selected"] = _shares(tokens, chosen_T)
    counts = np.bincount(tokens.role_T, minlength=len(ROLES))
    return {
        "num_questions": tokens.num_questions,
        "num_tokens": dict(zip(ROLES, map(int, counts), strict=True)),
        "signals": found,
    }


def ranking(
    scores_T: Float[np.ndarray, " T"],
    positive_T: Bool[np.ndarray, " T"],
    question_T: Int[np.ndarray, " T"],
    weights_RQ: Float[np.ndarray, "R Q"],
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """AUROC (ties count half) and average precision (tied tokens come in together), with each row's weights.

    NaN where a row gives one of the two classes no weight.
    """
    order_T = np.argsort(-scores_T, kind="stable")
    scores_T, positive_T, question_T = scores_T[order_T], positive_T[order_T], question_T[order_T]
    starts_K = np.flatnonzero(np.r_[True, scores_T[1:] != scores_T[:-1]])  # K different scores, the highest first
    auroc_R, precision_R = np.full((2, len(weights_RQ)), np.nan)
    for row, weights_Q in enumerate(weights_RQ):  # each row is T numbers, all of them would be R·T
        weights_T = weights_Q[question_T]
        positive_K = np.add.reduceat(weights_T * positive_T, starts_K)
        negative_K = np.add.reduceat(weights_T * ~positive_T, starts_K)
        above_K = np.cumsum(positive_K)
        all_positive, all_negative = above_K[-1], negative_K.sum()
        if all_positive == 0 or all_negative == 0:
            continue
        auroc_R[row] = (negative_K * (above_K - positive_K / 2)).sum() / (all_positive * all_negative)
        chosen_K = above_K + np.cumsum(negative_K)
        precision_R[row] = (positive_K * above_K / np.maximum(chosen_K, 1)).sum() / all_positive
    return auroc_R, precision_R


def _drawn(num_questions: int, draws: int, seed: int) -> Float[np.ndarray, "R Q"]:
    """How often each question is drawn: all of them once in the first row, then resamples."""
    drawn_RQ = np.random.default_rng(seed).multinomial(num_questions, np.full(num_questions, 1 / num_questions), draws)
    return np.concatenate([np.ones((1, num_questions)), drawn_RQ])


def _interval(values_R: Float[np.ndarray, " R"]) -> dict[str, Any]:
    low, high = np.nanquantile(values_R[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(values_R[0]), "low": float(low), "high": float(high)}


def _shares(tokens: Tokens, chosen_T: Bool[np.ndarray, " T"]) -> dict[str, dict[str, Any]]:
    """Of the tokens of each role, the share that is selected."""
    cell_T = tokens.question_T * len(ROLES) + tokens.role_T
    size = tokens.num_questions * len(ROLES)
    all_QK, chosen_QK = (np.bincount(c, minlength=size).reshape(-1, len(ROLES)) for c in (cell_T, cell_T[chosen_T]))
    found = ratios(chosen_QK, all_QK, SEED)
    present = [at for at in range(len(ROLES)) if all_QK[:, at].any()]
    return {
        ROLES[at]: {"value": float(found.value_K[at]), "low": float(found.low_K[at]), "high": float(found.high_K[at])}
        for at in present
    }


def _lines(found: Mapping[str, Any]) -> list[str]:
    signals: Mapping[str, Any] = found["signals"]
    targets = list(dict.fromkeys(target for entry in signals.values() for target in entry["auroc"]))
    roles = [role for role, count in found["num_tokens"].items() if count]
    lines = [
        f"{found['num_questions']} questions; AUROC, its difference from the signal's default, average precision.",
        "",
    ]
    lines += ["| signal | " + " | ".join(targets) + " |", "|---" * (1 + len(targets)) + "|"]
    for name, entry in signals.items():
        lines.append(f"| {name} | " + " | ".join(_cell(entry, target) for target in targets) + " |")
    lines += ["", "Share of each kind of word's tokens that the signal selects, percent.", ""]
    lines += ["| signal | " + " | ".join(f"{role} ({found['num_tokens'][role]})" for role in roles) + " |"]
    lines += ["|---" * (1 + len(roles)) + "|"]
    for name, entry in signals.items():
        lines.append(f"| {name} | " + " | ".join(_percent(entry["selected"][role]) for role in roles) + " |")
    return lines


def _cell(entry: Mapping[str, Any], target: str) -> str:
    if target not in entry["auroc"]:
        return ""
    auroc, precision = entry["auroc"][target], entry["average_precision"][target]
    text = f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]"
    if difference := auroc.get("difference"):
        outside = difference["low"] > 0 or difference["high"] < 0
        text += f" ({difference['value']:+.3f}{'*' if outside else ''})"
    return f"{text}; {precision['value']:.3f}"


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.0f} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


def _draw(found: Mapping[str, Any]) -> Figure:
    """Left: the AUROC that each option is judged by; right: which kinds of word it selects."""
    signals: Mapping[str, Any] = found["signals"]
    names = list(signals)
    roles = [role for role, count in found["num_tokens"].items() if count]
    figure = Figure(figsize=(WIDTH, 1.2 + 0.22 * len(names)), layout="constrained")
    quality, kinds = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for at, name in enumerate(names):
        base = name.partition("_")[0]
        auroc = signals[name]["auroc"].get(JUDGED_BY.get(base, "seen"))
        if auroc is not None:
            color = palette.SIGNALS.get(base, palette.MUTED)
            quality.plot([auroc["low"], auroc["high"]], [at, at], color=color, linewidth=1.5)
            quality.plot(auroc["value"], at, "o", color=color, markersize=4)
    judged = "; ".join(f"{base}: {target}" for base, target in JUDGED_BY.items())
    quality.set_title("AUROC against the ground truth")
    quality.set_xlabel(judged)
    quality.set_yticks(range(len(names)), names)
    quality.grid(axis="x")
    quality.invert_yaxis()
    shares = np.array([[signals[name]["selected"][role]["value"] for role in roles] for name in names])
    kinds.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        dark = shares[row, column] > 0.6
        kinds.text(
            column,
            row,
            f"{100 * shares[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else palette.INK,
        )
    kinds.set_xticks(range(len(roles)), [role.replace("_", "\n") for role in roles])
    kinds.set_title("selected, percent of the kind")
    kinds.grid(False)
    return figure
