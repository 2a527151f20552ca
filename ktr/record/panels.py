"""The curves that belong on one page, for whatever draws them: W&B, TensorBoard, the report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# section | title | names, where * is a part's own name and {signal} a signal's; published values stand beside what they
# can be compared with
TABLE = """\
Rewards     | Reward                                          | reward/total reward/std
Rewards     | Parts of the reward                             | reward/*
Rewards     | Held-out accuracy                               | val/*/accuracy
Rewards     | Accuracy on benchmarks                          | benchmark/*/accuracy benchmark/*/mra
Rewards     | Completion length                               | rollout/completion_length val/*/completion_length
Rewards     | Questions that teach nothing, cut completions   | rollout/zero_advantage_fraction rollout/truncated_fraction
Gradients   | Norm (published: selected 4.5, rest 1.505)      | grad/norm/selected grad/norm/rest grad/norm/all
Gradients   | Cosine with the whole (published: 0.862, 0.572) | grad/cosine/selected grad/cosine/rest
Gradients   | Norm by signal                                  | grad/norm/visual grad/norm/temporal grad/norm/entropy grad/norm/random grad/norm/{signal}
Gradients   | Cosine by signal                                | grad/cosine/visual grad/cosine/temporal grad/cosine/entropy grad/cosine/random grad/cosine/{signal}
Gradients   | Norm by kind of word (ground truth)             | grad/norm/role/*
Gradients   | Cosine by kind of word (ground truth)           | grad/cosine/role/*
Gradients   | Loss variance (published: 0.444, GRPO 0.553)    | loss/variance loss/variance_all
Gradients   | Whole gradient before clipping                  | grad/norm
Gradients   | How exact the parts are                         | grad/parts_error
Attribution | Tokens selected                                 | attribution/union_fraction attribution/*/selected_fraction
Attribution | Overlap of signals                              | attribution/overlap/*
Attribution | Scores                                          | attribution/*/score
Engine      | Loss                                            | loss/total loss/demonstration
Engine      | Mismatch with the trainer                       | rollout/mismatch/*
Engine      | Staleness                                       | rollout/staleness/*
Engine      | Ratio, clipped tokens                           | loss/ratio_mean loss/clip_fraction
Engine      | KL from the reference                           | loss/kl
Throughput  | Tokens per second                               | train/tokens_per_second rollout/tokens_per_second
Throughput  | Questions per second                            | train/questions_per_second
Throughput  | Seconds of a step                               | train/step_seconds time/*_seconds
Throughput  | Learning rate                                   | lr
"""  # noqa: E501

# of the paper (arXiv 2601.19686, Fig. 11), at 7B
PUBLISHED = {
    "grad/norm/selected": 4.5,
    "grad/norm/rest": 1.505,
    "grad/cosine/selected": 0.862,
    "grad/cosine/rest": 0.572,
    "loss/variance": 0.444,
    "loss/variance_all": 0.553,
}


_ANY = "[^/]+"
_SIGNAL = "(?!all$)(?!selected$)(?!rest$)[^/]+"  # without a |, at which a pattern is cut


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes."""

    section: str
    title: str
    names: tuple[str, ...]

    @property
    def pattern(self) -> str:
        """A regular expression that fits the whole names of the panel's metrics."""
        escaped = (re.escape(name) for name in self.names)
        return "|".join(f"^{name}$".replace(r"\*", _ANY).replace(r"\{signal\}", _SIGNAL) for name in escaped)

    def among(self, logged: Sequence[str]) -> list[str]:
        """The panel's metrics among the names that a run logged, in the panel's order."""
        found = [[name for name in logged if re.search(pattern, name)] for pattern in self.pattern.split("|")]
        return list(dict.fromkeys(name for names in found for name in names))


def _panel(line: str) -> Panel:
    section, title, names = (cell.strip() for cell in line.split("|"))
    return Panel(section, title, tuple(names.split()))


PANELS = tuple(_panel(line) for line in TABLE.splitlines())


def sections() -> dict[str, list[Panel]]:
    """Panels by section, in their order."""
    return {section: list(panels) for section, panels in groupby(PANELS, key=lambda panel: panel.section)}
