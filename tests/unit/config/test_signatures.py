"""Signatures read from source are those that Python sees after importing."""

import inspect
import re
import textwrap

import pytest
from hydra.utils import get_object

from ktr.config.search_path import CONF
from ktr.config.signatures import names_in, signature_of

TARGETS = sorted(
    {target for file in CONF.rglob("*.yaml") for target in re.findall(r"_target_: ([\w.]+)", file.read_text())}
)


@pytest.mark.parametrize("target", [*TARGETS, "peft.LoraConfig", "torch.optim.AdamW"])
def test_parameters_are_those_of_the_imported_object(target: str):
    signature = signature_of(target)
    assert signature is not None
    seen = inspect.signature(get_object(target)).parameters
    named = [
        name
        for name, parameter in seen.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    assert list(signature.parameters) == named
    assert signature.open == any(parameter.kind is parameter.VAR_KEYWORD for parameter in seen.values())


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose top module cannot be imported, only read."""
    (tmp_path / "parsed_only").mkdir()
    (tmp_path / "parsed_only" / "__init__.py").write_text(
        "raise RuntimeError('imported')\nfrom .inner import Exported as Out\n"
    )
    (tmp_path / "parsed_only" / "inner.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass, field
            from typing import ClassVar, Literal

            Size = Literal["small", "large"]

            class Base:
                def __init__(self, first, *, size: Size = "small"): ...

                @classmethod
                def make(cls, path, **options): ...

            class Exported(Base): ...

            @dataclass
            class Parent:
                x: int
                kind: ClassVar[str] = "k"

            @dataclass(frozen=True)
            class Child(Parent):
                y: float = 0.0
                derived: int = field(init=False)

            def build(a, b=1): ...

            made = build(1)
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "parsed_only"


def test_nothing_is_imported_and_reexports_inheritance_and_fields_are_followed(package: str):
    assert list(signature_of(f"{package}.Out").parameters) == ["first", "size"]
    assert list(signature_of(f"{package}.inner.Child").parameters) == ["x", "y"]
    assert list(signature_of(f"{package}.inner.build").parameters) == ["a", "b"]
    made = signature_of(f"{package}.inner.Exported.make")
    assert list(made.parameters) == ["path"] and made.open


def test_an_alias_in_an_annotation_stands_for_its_choices(package: str):
    assert "Literal['small', 'large']" in __import__("ast").unparse(
        signature_of(f"{package}.inner.Base").parameters["size"]
    )


@pytest.mark.parametrize("name", ["inner.Nothing", "inner.Base.nothing", "nowhere.Thing", "inner"])
def test_a_target_that_is_not_there_or_a_module_is_a_lookup_error(package: str, name: str):
    with pytest.raises(LookupError):
        signature_of(f"{package}.{name}")


@pytest.mark.parametrize("target", ["no_such_package.Thing", "no_dot"])
def test_a_target_of_no_package_is_a_lookup_error(target: str):
    with pytest.raises(LookupError, match=target.partition(".")[0]):
        signature_of(target)


def test_a_name_that_was_given_a_value_has_no_signature(package: str):
    assert signature_of(f"{package}.inner.made") is None


def test_names_to_suggest_are_those_of_the_module(package: str):
    assert set(names_in(f"{package}.inner.Bild")) == {"Base", "Exported", "Parent", "Child", "build"}
