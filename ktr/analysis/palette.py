"""One colour for each signal, the same in every figure and in the HTML. Distinct under common colour blindness."""

SIGNALS = {"entropy": "#d98a00", "visual": "#1f77c9", "temporal": "#b3479c"}
# The tokens a signal should find carry its colour: words about looks, about order and motion, and decisions.
ROLES = {"appearance": SIGNALS["visual"], "order_motion": SIGNALS["temporal"], "decision": SIGNALS["entropy"]}
BEFORE, AFTER = "#a9b4c0", "#1d8a6e"
INK, MUTED, GRID = "#1d2733", "#66717e", "#e3e7ec"
OTHER_SIGNALS = ("#5b8c2a", "#8c564b", "#7f7f7f", "#17a2b8", "#6a51c4", "#c2427a")


def signal_colors(signals: list[str]) -> dict[str, str]:
    """Colour of each signal; signals without a fixed colour take the spare ones in turn."""
    spare = iter(OTHER_SIGNALS * len(signals))
    return {signal: SIGNALS.get(signal) or next(spare) for signal in signals}


def tint(color: str, opacity: float) -> str:
    """``#rrggbb`` as a CSS colour of this opacity."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
