"""Tokens coloured by the signals that select them: the text, the CSS and the tooltip of each."""

from collections.abc import Mapping, Sequence
from math import exp

from ktr.analysis import palette
from ktr.record.token_records import Record

OPACITY = 0.32


def legend(signals: Sequence[str], has_roles: bool) -> list[tuple[str, str]]:
    """What tints and underlines mean: (text, CSS) of each."""
    colors = palette.signal_colors(list(signals))
    parts = [(f"{signal} selects it", _background([signal], colors)) for signal in signals]
    if len(signals) > 1:
        parts.append(("several select it", _background(signals, colors)))
    return parts + (role_legend() if has_roles else [])


def role_legend() -> list[tuple[str, str]]:
    """What underlines mean."""
    names = {"appearance": "about looks", "order_motion": "about order or motion", "decision": "a decision"}
    return [(f"truth: {name}", _underline(role)) for role, name in names.items()]


def shown_tokens(record: Record, signals: Sequence[str]) -> list[tuple[str, str, str]]:
    """(text, CSS, tooltip) of each: tinted by the signals that select it, underlined by its ground-truth role.

    ``signals`` are those of all records of a page, as in its ``legend``: a colour goes by the place among them.
    """
    colors = palette.signal_colors(list(signals))
    chosen = {signal: set(positions) for signal, positions in record["selected"].items()}
    roles = record.get("roles", [""] * len(record["tokens"]))
    tokens = []
    for position, (token, role) in enumerate(zip(record["tokens"], roles, strict=True)):
        selecting = [signal for signal in signals if position in chosen.get(signal, ())]
        style = _background(selecting, colors) + _underline(role)
        tokens.append((token, style, _tooltip(record, position, selecting, role)))
    return tokens


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
