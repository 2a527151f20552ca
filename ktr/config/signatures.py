"""Signatures of ``_target_`` names, read from source files without importing them.

Importing torch and Lightning takes longer than a mistyped key should take to be named, so that griffe parses the
modules instead, and of each package only those that the name leads through (``lightning.Trainer`` is defined three
files down). A target of a compiled module has no source and no signature.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import griffe


@dataclass(frozen=True)
class Signature:
    """Parameter names with their annotations (None where there is none); ``open`` where ``**kwargs`` takes any name.

    An annotation that names an alias of the module (``Scope = Literal[...]``) is replaced by what it stands for.
    """

    parameters: dict[str, ast.expr | None] = field(default_factory=dict)
    open: bool = False


class _ParsedOnDemand(griffe.ModulesCollection):
    """All modules there are: griffe's loader would parse whole packages, which takes seconds."""

    def get_member(self, key: str | Sequence[str]) -> Any:
        parts = key.split(".") if isinstance(key, str) else key
        for size in range(len(parts), 0, -1):
            if (found := _module(".".join(parts[:size]))) is not None:
                for name in parts[size:]:
                    found = _member(found, name)
                return found
        raise KeyError(key)


_MODULES = _ParsedOnDemand()


@cache
def signature_of(target: str) -> Signature | None:
    """Signature of the class, method or function with this dotted name; None where no source holds it.

    Raises LookupError where the name's module is there in source and does not define it, or where no package is.
    """
    top, _, rest = target.partition(".")
    if not rest:
        raise LookupError(f"{target!r} is no dotted name")
    spec = find_spec(top) if top.isidentifier() else None
    if spec is None:
        raise LookupError(f"no module {top!r} can be imported: start in the folder that holds it, or install it")
    if spec.origin is not None and _module(top) is None:
        return None
    try:
        found = _MODULES.get_member(target)
    except KeyError as error:
        raise LookupError(f"its source defines no {error}") from error
    if isinstance(found, griffe.Class):
        griffe.DataclassesExtension().on_package(pkg=found)  # pyright: ignore[reportArgumentType] # its __init__ alone
        try:
            found = _member(found, "__init__")
        except KeyError:
            return Signature(open=len(found.resolved_bases) < len(found.bases))  # a base without source takes anything
    if isinstance(found, griffe.Module):
        raise LookupError("it is a module")
    if not isinstance(found, griffe.Function):  # a name that was given a value, of any kind
        return None
    variadic = (griffe.ParameterKind.var_positional, griffe.ParameterKind.var_keyword)
    bound = () if "staticmethod" in found.labels else ("self", "cls")
    named = [p for i, p in enumerate(found.parameters) if p.kind not in variadic and (i or p.name not in bound)]
    is_open = any(p.kind is griffe.ParameterKind.var_keyword for p in found.parameters)
    return Signature({p.name: _expanded(p.annotation) for p in named}, is_open)


def names_in(target: str) -> list[str]:
    """Public classes and functions of the module that should hold ``target``, to suggest the right one."""
    module = _module(target.rpartition(".")[0])
    members = module.members.values() if module else ()
    found = [member.name for member in members if not member.is_alias and (member.is_class or member.is_function)]
    return [name for name in found if not name.startswith("_")]


@cache
def _module(name: str) -> griffe.Module | None:
    path = _source(name)
    return path and griffe.visit(name, path, path.read_text(encoding="utf-8"), modules_collection=_MODULES)


def _source(module: str) -> Path | None:
    """File of a module. Only the top package is looked up: ``find_spec`` would import the parents of a submodule."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return None
    if not rest:  # a folder without __init__.py has no origin, and modules all the same
        return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    folders = [Path(root, *rest) for root in spec.submodule_search_locations or ()]
    files = [path for folder in folders for path in (folder / "__init__.py", folder.with_suffix(".py"))]
    return next((path for path in files if path.is_file()), None)


def _member(owner: Any, name: str) -> Any:
    """A member of a module, or of a class its own or else an inherited one. Raises KeyError."""
    inherits = owner.is_class and name not in owner.members  # to look for all would parse every base
    member = (owner.all_members if inherits else owner.members)[name]
    try:
        return member.final_target if member.is_alias else member
    except (griffe.AliasResolutionError, griffe.CyclicAliasError) as error:
        raise KeyError(name) from error


def _expanded(annotation: str | griffe.Expr | None) -> ast.expr | None:
    """The annotation, or what its name is an alias of."""
    if isinstance(annotation, griffe.ExprName):
        try:
            named = _MODULES.get_member(annotation.canonical_path)
        except KeyError:  # a builtin
            named = None
        annotation = named.value if isinstance(named, griffe.Attribute) else annotation
    return None if annotation is None else ast.parse(str(annotation), mode="eval").body
