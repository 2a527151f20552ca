"""The kind of every token of a completion: its role, with tags, the answer and the end told apart."""

from ktr.shapes.ground_truth import token_roles
from ktr.shapes.reasoning import Role
from ktr.shapes.tokenizer import TAGS
from ktr.types import RolloutGroup

ANSWER, TAG, END = "answer", "tags", "end"
KINDS = (*map(str, Role), ANSWER, TAG, END)


def token_kinds(group: RolloutGroup) -> list[list[str]] | None:
    """A kind for each token of a group's completions: tags, what stands in the answer tags, EOS, or a word's role.

    None where the truth is not known, as ``token_roles``.
    """
    roles = token_roles(group)
    if roles is None:
        return None
    return [
        _kinds(completion.text.split(), of_one) for completion, of_one in zip(group.completions, roles, strict=True)
    ]


def _kinds(spoken: list[str], roles: list[str]) -> list[str]:
    kinds, answers = [], False
    for word, role in zip(spoken, roles):
        if word in TAGS:
            answers = word == "<answer>"
            kinds.append(TAG)
        else:
            kinds.append(ANSWER if answers else role)
    return kinds + [END] * (len(roles) - len(kinds))
