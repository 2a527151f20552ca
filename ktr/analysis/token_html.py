"""Completions with their tokens coloured by the signals that select them."""

from collections.abc import Mapping, Sequence
from math import exp

from ktr.analysis import palette
from ktr.analysis.markup import Markup, element, join
from ktr.record.token_records import Record

OPACITY = 0.32


def legend(signals: Sequence[str], has_roles: bool) -> Markup:
    """What tints and underlines mean."""
    colors = palette.signal_colors(list(signals))
    parts: list[Markup] = [
        element("span", f"{signal} selects it", class_="token", style=_background([signal], colors))
        for signal in signals
    ]
    if len(signals) > 1:
        parts.append(element("span", "several select it", class_="token", style=_background(signals, colors)))
    if has_roles:
        names = {"appearance": "about looks", "order_motion": "about order or motion", "decision": "a decision"}
        parts += [
            element("span", f"truth: {name}", class_="token", style=_underline(role)) for role, name in names.items()
        ]
    return element("p", *parts, class_="legend") if parts else Markup("")


def completion_html(record: Record) -> Markup:
    """One completion: what it earned, then its tokens. Hover a token for its scores."""
    earned = [f"{name} {value:g}" for name, value in record["rewards"].items()]
    accuracy = record["rewards"].get("accuracy")
    verdict = []
    if accuracy is not None:
        right = accuracy >= 1
        verdict = [element("b", "right" if right else "wrong", class_="right" if right else "wrong")]
    line = " · ".join([*earned, f"advantage {record['advantage']:+.2f}", f"step {record['step']}"])
    return element(
        "div",
        element("p", *verdict, element("span", line), class_="earned"),
        element("p", tokens_html(record), class_="tokens"),
        class_="completion",
    )


def tokens_html(record: Record) -> Markup:
    """The tokens as spans: tinted by the signals that select them, underlined by their ground-truth role."""
    signals = list(record["selected"])
    colors = palette.signal_colors(signals)
    chosen = {signal: set(positions) for signal, positions in record["selected"].items()}
    roles = record.get("roles", [""] * len(record["tokens"]))
    spans = []
    for position, (token, role) in enumerate(zip(record["tokens"], roles, strict=True)):
        selecting = [signal for signal in signals if position in chosen[signal]]
        style = _background(selecting, colors) + _underline(role)
        text = join([token.replace("\n", "↵")])
        tail = element("br") if "\n" in token else element("wbr")
        spans.append(
            element("span", text, class_="token", style=style, title=_tooltip(record, position, selecting, role)) + tail
        )
    return Markup("".join(spans))


def _tooltip(record: Record, position: int, selecting: Sequence[str], role: str) -> str:
    lines = [f"p = {exp(record.get('logps', record['engine_logps'])[position]):.3f}"]
    for signal, scores in record["scores"].items():
        lines.append(f"{signal} {scores[position]:.3f}" + (" · selected" if signal in selecting else ""))
    if role:
        lines.append(f"truth: {role.replace('_', ' or ')}")
    return "\n".join(lines)


def _background(selecting: Sequence[str], colors: Mapping[str, str]) -> str:
    """One flat tint, or equal bands from top to bottom where several signals select the token."""
    tints = [palette.tint(colors[signal], OPACITY) for signal in selecting]
    if not tints:
        return ""
    edges = [f"{tint} {100 * at / len(tints):.0f}% {100 * (at + 1) / len(tints):.0f}%" for at, tint in enumerate(tints)]
    return f"background:linear-gradient({','.join(edges)});"


def _underline(role: str) -> str:
    return f"border-bottom:2px solid {palette.ROLES[role]};" if role in palette.ROLES else ""
