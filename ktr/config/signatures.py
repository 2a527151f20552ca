"""Signatures of ``_target_`` names, read from source files without importing them.

Importing torch and Lightning takes longer than a mistyped key should take to be named, so that the check of a config
parses the modules instead. It follows re-exports (``lightning.Trainer`` is defined three files down), inherited
constructors, dataclass fields and class methods. A target of a compiled module has no source and no signature.
"""

import ast
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Signature:
    """Parameter names with their annotations (None where there is none); ``open`` where ``**kwargs`` takes any name.

    An annotation that names an alias of the module (``Scope = Literal[...]``) is replaced by what it stands for.
    """

    parameters: dict[str, ast.expr | None] = field(default_factory=dict)
    open: bool = False


@cache
def signature_of(target: str) -> Signature | None:
    """Signature of the class, method or function with this dotted name; None where no source holds it.

    Raises LookupError where the name's module is there in source and does not define it, or where no package is.
    """
    parts = target.split(".")
    for size in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:size])
        if (path := _source(module)) is not None:
            break
        if size == 1 and find_spec(module) is not None:
            return None
    else:
        raise LookupError(
            f"no module named {parts[0]!r} is installed" if len(parts) > 1 else f"{target!r} is no dotted name"
        )
    definition = _find(module, path, parts[size])
    if definition is None:
        raise LookupError(f"{path.name} defines no {parts[size]!r}")
    for name in parts[size + 1 :]:
        definition = _member(*definition, name)
        if definition is None:
            raise LookupError(f"{parts[size]!r} has no {name!r}")
    return _signature(*definition)


def names_in(target: str) -> list[str]:
    """Public classes and functions of the module that should hold ``target``, to suggest the right one."""
    path = _source(target.rpartition(".")[0])
    return [] if path is None else [node.name for node in _tree(path).body if isinstance(node, _DEFINITIONS)]


_DEFINITIONS = (ast.ClassDef, ast.FunctionDef)


def _defines(node: ast.stmt, name: str) -> bool:
    if isinstance(node, _DEFINITIONS):
        return node.name == name
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)


@cache
def _source(module: str) -> Path | None:
    """File of a module. Only the top package is looked up: ``find_spec`` would import the parents of a submodule."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin.endswith(".py") else None
    for root in spec.submodule_search_locations or ():
        folder = Path(root, *rest)
        for path in (folder / "__init__.py", folder.with_suffix(".py")):
            if path.is_file():
                return path
    return None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _find(module: str, path: Path, name: str) -> tuple[str, ast.stmt] | None:
    """The module that defines ``name``, with the definition, following imports from module to module."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _statements(_tree(path)):
        if _defines(node, name):
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name != (alias.asname or alias.name):
                    continue
                source = _absolute(node, package)
                origin = _source(source)
                if origin is not None and (found := _find(source, origin, alias.name)):
                    return found
    return None


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Statements of a module, those under a top-level ``if`` or ``try`` included."""
    flat: list[ast.stmt] = []
    queue = list(tree.body)
    while queue:
        node = queue.pop(0)
        flat.append(node)
        if isinstance(node, ast.If | ast.Try):
            queue = [*node.body, *node.orelse, *queue]
    return flat


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *(node.module or "").split(".")]).rstrip(".")


def _bases(module: str, node: ast.ClassDef) -> list[tuple[str, ast.stmt]]:
    path = _source(module)
    assert path is not None
    names = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    found = [_find(module, path, base.id) for base in names if isinstance(base, ast.Name)]
    return [base for base in found if base is not None]


def _member(module: str, node: ast.stmt, name: str) -> tuple[str, ast.stmt] | None:
    """A method of a class, its own or the nearest inherited one."""
    if not isinstance(node, ast.ClassDef):
        return None
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == name:
            return module, child
    return next((found for base in _bases(module, node) if (found := _member(*base, name))), None)


def _signature(module: str, node: ast.stmt) -> Signature:
    if isinstance(node, ast.ClassDef):
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            return _fields(module, node)
        constructor = _member(module, node, "__init__")
        return _signature(*constructor) if constructor else Signature(open=bool(_unresolved(module, node)))
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if positional and positional[0].arg in ("self", "cls") and "staticmethod" not in decorators:
        positional = positional[1:]
    named = [*positional, *arguments.kwonlyargs]
    parameters = {argument.arg: _expanded(module, argument.annotation) for argument in named}
    return Signature(parameters, open=arguments.kwarg is not None)


def _expanded(module: str, annotation: ast.expr | None) -> ast.expr | None:
    """The annotation, or what its name is an alias of."""
    path = _source(module)
    if isinstance(annotation, ast.Name) and path is not None and (found := _find(module, path, annotation.id)):
        return found[1].value if isinstance(found[1], ast.Assign) else annotation
    return annotation


def _fields(module: str, node: ast.ClassDef) -> Signature:
    """Fields of a dataclass, those of its base classes first."""
    parameters: dict[str, ast.expr | None] = {}
    for base_module, base in _bases(module, node):
        if isinstance(base, ast.ClassDef):
            parameters |= _signature(base_module, base).parameters
    for child in node.body:
        if not isinstance(child, ast.AnnAssign) or "ClassVar" in ast.unparse(child.annotation):
            continue
        parameters[ast.unparse(child.target)] = _expanded(module, child.annotation)
    return Signature(parameters)


def _unresolved(module: str, node: ast.ClassDef) -> bool:
    """Whether a base class could not be found in source, so that its constructor is unknown."""
    return len(_bases(module, node)) < len(node.bases)
