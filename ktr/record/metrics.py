"""Every metric that a run logs: its name, its unit, and what it means. docs/metrics.md is written from this table."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

TABLE = """\
reward/total                    | reward   | what a completion earns, mean over the step's completions
reward/std                      | reward   | deviation of rewards within a question, mean over questions
reward/*                        | reward   | one part of the reward, before its weight, mean over completions
loss/total                      | loss     | the loss of the global batch, that the gradient is of
loss/policy                     | loss     | its policy term
loss/kl                         | nats     | k3 estimate of KL(policy ‖ reference); 0 without a penalty
loss/clip_fraction              | share    | completion tokens whose gradient the clip removes
loss/ratio_mean                 | ratio    | exp(logp − old logp), mean over scored tokens; 1 on-policy
loss/variance                   | loss²    | variance of the policy loss of single tokens that have a weight
loss/variance_all               | loss²    | the same over all tokens of the groups that are learned from
loss/demonstration              | nats     | cross-entropy of demonstrations, weighted mean over their tokens
loss/*                          | loss     | an auxiliary loss of supervised training
lr                              | rate     | learning rate of the update
grad/norm                       | norm     | of the whole gradient, before clipping
grad/norm/all                   | norm     | of the policy loss's gradient with weight 1 on each token (GRPO's)
grad/norm/selected              | norm     | of the part of that gradient from tokens by their weight
grad/norm/rest                  | norm     | of the part from what is left
grad/norm/random                | norm     | of the part from as many random tokens as are selected
grad/norm/role/*                | norm     | of the part from words that depend on this (ground truth)
grad/norm/*                     | norm     | of the part from the tokens that this signal selects
grad/cosine/role/*              | cosine   | of the part from words that depend on this with the whole
grad/cosine/*                   | cosine   | of a part's gradient with the whole; see grad/norm/*
grad/parts_error                | share    | ‖selected + rest − all‖ / ‖all‖: how exact the parts are
attribution/union_fraction      | share    | completion tokens that any signal selects
attribution/overlap/*           | share    | tokens that both signals select, of those that either does
attribution/*/selected_fraction | share    | completion tokens that the signal selects
attribution/*/score             | score    | the signal's score, mean over tokens
rollout/completion_length       | tokens   | mean length of a completion
rollout/truncated_fraction      | share    | completions cut at the longest length
rollout/zero_advantage_fraction | share    | questions whose completions earn the same: nothing is learned from them
rollout/num_batches             | count    | batches of questions that dynamic sampling took for the step
rollout/num_surplus             | count    | groups with a signal that it left over
rollout/mismatch/mean           | nats     | |engine logp − trainer logp|, mean over tokens learned from
rollout/mismatch/max            | nats     | the largest of them
rollout/mismatch/kl             | nats     | k3 estimate of KL(engine ‖ trainer) over those tokens
rollout/importance_mean         | ratio    | importance weight against the mismatch, mean over those tokens
rollout/staleness/mean          | updates  | how many updates old the weights were that sampled, mean
rollout/staleness/max           | updates  | the most of them
rollout/tokens_per_second       | tokens/s | completion tokens of a rank by time of the rollout part
val/*/accuracy                  | share    | held-out questions answered right, in this way of answering
val/*/format                    | share    | held-out answers in the asked-for form
val/*/completion_length         | tokens   | mean length of a held-out answer
benchmark/*/accuracy            | share    | the same items of a benchmark answered right, at each validation
benchmark/*/mra                 | share    | mean relative accuracy of items whose answer is a number of any size (MRA)
time/data_seconds               | s        | waiting for the next batch's videos, before a step or in it
time/gradients_seconds          | s        | measuring the parts of the gradient, at the steps that do
time/*_seconds                  | s        | this part of a step
train/questions_per_second      | 1/s      | questions of a rank by time of a step, without validation
train/tokens_per_second         | tokens/s | completion tokens of a rank by time of a step
train/step_seconds              | s        | a step from its start to its end
train/cpu_seconds               | s        | processor time of a step, all threads of this process
"""


@dataclass(frozen=True)
class Metric:
    """``pattern`` is a name, or names with * for a part's own; ``meaning`` is a sentence without its stop."""

    pattern: str
    unit: str
    meaning: str


METRICS = tuple(Metric(*(cell.strip() for cell in line.split("|", 2))) for line in TABLE.splitlines())


def metric(name: str) -> Metric | None:
    """The table's row for a logged name; None if it has none."""
    return next((row for row in METRICS if fnmatchcase(name, row.pattern)), None)


def metrics_page() -> Iterator[str]:
    """Lines of docs/metrics.md."""
    yield "# Metrics"
    yield ""
    yield "Names, units and meanings of what a run logs (metrics.csv, timings.csv, W&B, TensorBoard). Written by"
    yield "`python -m ktr.record.metrics > docs/metrics.md` from the table in `ktr/record/metrics.py`; the first row"
    yield "that fits a name counts. What not every step has (gradients, validation) is logged at its step alone."
    yield ""
    yield "| name | unit | meaning |"
    yield "|---|---|---|"
    for row in METRICS:
        yield f"| `{row.pattern}` | {row.unit} | {row.meaning.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in metrics_page())
