"""Which keys and values a config may hold: the signatures of its ``_target_`` nodes decide.

A plain mapping (``callbacks``, ``attribution.signals``) has the keys that the files of conf/ give it; a command line
may add an entry only as a whole ``_target_`` node.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ktr.config.signatures import Signature, names_in, signature_of
from ktr.errors import ConfigError

RESERVED = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")
MAPPINGS = {"model.lora": "peft.LoraConfig"}  # mappings that become the arguments of a class


def check_nodes(
    config: Mapping[str, Any], resolved: Mapping[str, Any], origin: Callable[[str], str] = lambda key: ""
) -> None:
    """Raise ConfigError where a node has a key that its target does not take, or a value of another type.

    ``config`` holds interpolations as they are written and ``resolved`` their values: of a wrong value that several
    keys share, the key is named that has it written out. ``origin`` says which file a key came from.
    """
    faults = sorted(_faults(config, resolved, ""), key=lambda fault: fault[0])
    if faults:
        _, sentence, key = faults[0]
        raise ConfigError(sentence + origin(key))


def _faults(config: Mapping[str, Any], resolved: Mapping[str, Any], at: str) -> Iterator[tuple[bool, str, str]]:
    """Whether it stands behind an interpolation, what is wrong, and where; each fault of a node and its children."""
    try:
        signature = _signature(config, at)
    except ConfigError as error:
        yield False, str(error), f"{at}._target_"
        return
    for key, value in config.items():
        path = f"{at}.{key}" if at else key
        if signature is not None and key not in RESERVED:
            annotation = signature.parameters.get(key)
            if _is_unknown(key, signature):
                yield False, unknown_key(path, signature.parameters), path
            elif annotation is not None and not _allows(annotation, resolved[key]):
                yield isinstance(value, str) and "${" in value, _wrong_value(path, resolved[key], annotation), path
        for child, child_resolved, name in _children(value, resolved[key], path):
            yield from _faults(child, child_resolved, name)


def check_override(path: str, config: Mapping[str, Any], added: Iterable[str] = (), groups: Iterable[str] = ()) -> None:
    """Raise ConfigError where the dotted ``path`` of an override leads to no key of ``config``.

    ``added`` are the paths that get a ``_target_`` on the same command line; ``groups`` are names to suggest as well.
    """
    node: Any = config
    parts = path.split(".")
    for depth, part in enumerate(parts):
        above = ".".join(parts[:depth])
        if isinstance(node, str) and node.startswith("${"):
            raise ConfigError(f"{path}: {above} is {node}, so set the key there")
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, Mapping):
            return  # a scalar, or null: Hydra says what can't be merged into it
        signature = _signature(node, above)
        known = [*node, *(signature.parameters if signature else ()), *(RESERVED if signature else ())]
        if part not in known and not (signature and not _is_unknown(part, signature)):
            here = ".".join(parts[: depth + 1])
            if here in added:
                return
            elsewhere = [leaf for leaf in _leaves(config) if f".{leaf}".endswith("." + ".".join(parts[depth:]))]
            if elsewhere and not nearest(part, known):  # a key of another node, right but for where it stands
                raise ConfigError(f"unknown key {path}: did you mean {elsewhere[0]}?")
            raise ConfigError(unknown_key(here, known, [*groups, *_leaves(config)] if depth == 0 else ()))
        node = node.get(part)


def unknown_key(path: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The sentence about an unknown key: the nearest of the ``known`` keys beside it, or of whole paths elsewhere."""
    above, _, key = path.rpartition(".")
    beside = dict.fromkeys(f"{above}.{name}" if above else name for name in known if name not in RESERVED)
    by_leaf: dict[str, str] = {}
    for other in (*beside, *elsewhere):
        by_leaf.setdefault(other.rpartition(".")[2], other)
    if close := nearest(key, by_leaf):
        return f"unknown key {path}: did you mean {by_leaf[close]}?"
    return f"unknown key {path}: {above or 'the config'} has {', '.join(sorted(beside)) or 'no keys'}"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word most like ``word``, if any is like it."""
    return next(iter(get_close_matches(word, list(words), n=1, cutoff=0.6)), None)


def _signature(node: Mapping[str, Any], at: str) -> Signature | None:
    """Signature of a node's target; None for a plain mapping and for a target without source."""
    target = node.get("_target_", MAPPINGS.get(at))
    return None if target is None else target_signature(f"{at}._target_", target)


def target_signature(key: str, target: str) -> Signature | None:
    """Signature of what a key names. Raises ConfigError, with the nearest name, where that is not there."""
    try:
        return signature_of(target)
    except LookupError as error:
        close = nearest(target.rpartition(".")[2], names_in(target))
        hint = f"; did you mean {target.rpartition('.')[0]}.{close}?" if close else ""
        raise ConfigError(f"{key}={target}: {error}{hint}") from error


def _is_unknown(key: str, signature: Signature) -> bool:
    """Where ``**kwargs`` takes any name, only one that looks like a slip of a named parameter is refused."""
    if key in signature.parameters or key in RESERVED:
        return False
    return not signature.open or bool(get_close_matches(key, signature.parameters, cutoff=0.85))


def _children(value: Any, resolved: Any, path: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    if isinstance(value, Mapping):
        return [(value, resolved, path)]
    if isinstance(value, list):
        return [(v, resolved[i], f"{path}.{i}") for i, v in enumerate(value) if isinstance(v, Mapping)]
    return []


def _leaves(config: Mapping[str, Any], at: str = "") -> list[str]:
    """Dotted paths of all keys below the root, for a key that was given without its path."""
    paths = []
    for key, value in config.items():
        path = f"{at}.{key}" if at else key
        if isinstance(value, Mapping):
            signature = _signature(value, path)
            inner = dict.fromkeys([*value, *(signature.parameters if signature else ())])
            values = [name for name in inner if name not in RESERVED and not isinstance(value.get(name), Mapping)]
            paths += [f"{path}.{name}" for name in values]
            paths += _leaves({name: child for name, child in value.items() if isinstance(child, Mapping)}, path)
    return paths


SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "Path": (str,), "None": (type(None),),
}  # fmt: skip


def _allows(annotation: ast.expr, value: Any) -> bool:
    """Whether a plain value fits an annotation; what the annotation's words don't decide is allowed."""
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id=name) if name in SCALARS:
            return isinstance(value, SCALARS[name]) and (name == "bool" or not isinstance(value, bool))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _allows(left, value) or _allows(right, value)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return value in ast.literal_eval(choices if isinstance(choices, ast.Tuple) else ast.Tuple([choices]))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _allows(inner, value)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return any(_allows(member, value) for member in members)
        case ast.Subscript(value=ast.Name(id="list" | "tuple" | "Sequence" | "List")):
            return not isinstance(value, str | int | float | bool)
    return True


def _wrong_value(path: str, value: Any, annotation: ast.expr) -> str:
    wanted = ast.unparse(annotation)
    close = None
    if isinstance(annotation, ast.Subscript) and wanted.startswith("Literal") and isinstance(value, str):
        close = nearest(value, [word for word in ast.literal_eval(annotation.slice) if isinstance(word, str)])
    return f"{path}={value!r}: it takes {wanted}" + (f"; did you mean {close}?" if close else "")
