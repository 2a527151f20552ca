"""All rules by name: a result names the one that made it."""

from difflib import get_close_matches

from ktr.errors import ConfigError
from ktr.evaluation.rules.official import mvbench, video_holmes, videomme, vsi_bench
from ktr.evaluation.rules.outcome import Rule
from ktr.evaluation.rules.tagged import lenient, partial, strict, tw_grpo, video_r1
from ktr.evaluation.rules.tempcompass import tempcompass
from ktr.evaluation.rules.video_mmmu import video_mmmu

RULES: dict[str, Rule] = {
    "video_r1": video_r1,
    "strict": strict,
    "lenient": lenient,
    "partial": partial,
    "tw_grpo": tw_grpo,
    "video_holmes": video_holmes,
    "videomme": videomme,
    "mvbench": mvbench,
    "vsi_bench": vsi_bench,
    "tempcompass": tempcompass,
    "video_mmmu": video_mmmu,
}


def rule_named(name: str) -> Rule:
    """Raises ``ConfigError`` with the nearest name where there is no such rule."""
    if name in RULES:
        return RULES[name]
    close = get_close_matches(name, RULES, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(RULES)}"
    raise ConfigError(f"rule={name}: there is no such rule; {hint}")
