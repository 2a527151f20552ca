"""What is asked of a model folder before anything heavy is imported: its files, and a family that ktr has.

A family is a folder of ktr/policy with the name of its ``model_type``, transformers' word for it in config.json.
"""

import json
import re
from pathlib import Path
from typing import Any

from ktr.config.keys import nearest
from ktr.errors import ConfigError, MissingModel

# Published folders by their names, and the repository of each.
PUBLISHED = {
    r"Qwen2\.5-VL-7B-COT-SFT": "Video-R1/{name}",
    r"Qwen[\d.]+-VL-[\w-]+-(?:Instruct|Thinking)": "Qwen/{name}",
}
MODEL_FILES = {
    "processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": ("tokenizer.json", "vocab.json"),
    "weights": ("*.safetensors",),
}
QUANTIZED = ("quantization_config", "compression_config")  # keys of config.json, or of the language model's part of it
_POLICIES = Path(__file__).resolve().parents[1] / "policy"


def families() -> list[str]:
    """The model types that ktr has a policy and an encoder for."""
    return sorted(path.parent.name for path in _POLICIES.glob("*/policy.py"))


def require_model(folder: Path, key: str) -> None:
    """Raise MissingModel where ``key`` names a folder that lacks a part of a model, and as ``require_plain``."""
    remedy = f"Get it: {_command(folder)}; or set {key}"
    if not (folder / "config.json").is_file():
        raise MissingModel(f"{key}={folder}: no model there. {remedy}")
    for kind, names in MODEL_FILES.items():
        if not any(any(folder.glob(name)) for name in names):
            raise MissingModel(f"{key}={folder}: the model there has no {kind} ({' or '.join(names)}). {remedy}")
    require_plain(folder, key)


def require_plain(folder: Path, key: str) -> None:
    """Raise ConfigError where the weights of a folder are not those of a plain model, which is what ktr trains.

    Quantized ones are refused to who only asks, too: passes compute with the head's weight and merged layers by
    themselves, and what transformers saves of a quantized model is not what was read.
    """
    about = _read(folder / "config.json", f"{key}={folder}")
    parts = [part for part in (about, about.get("text_config")) if isinstance(part, dict)]
    told_by = (part.get(name) is not None for part in parts for name in QUANTIZED)
    if any(told_by) or (folder / "hf_quant_config.json").is_file():  # the latter is NVIDIA's
        raise ConfigError(
            f"{key}={folder}: its weights are quantized, which cannot be trained or saved as they were; choose the "
            "folder of the same model in bfloat16"
        )
    if (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{key}={folder}: an adapter lies beside the model (adapter_config.json), which transformers would apply; "
            "move it away if it is merged, or set model.adapter to a folder of its own"
        )


def require_adapter(folder: Path, model: Path, family: str | None) -> None:
    """Raise MissingModel where ``model.adapter`` names no adapter that PEFT saved.

    And ConfigError where the adapter was trained on another family than that of ``model``, if one is given: a matrix of
    the same shape and name would be merged without a word.
    """
    key = f"model.adapter={folder}"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if (folder / name).is_file():
            continue
        whole = "; a whole model is there, for model.path" if (folder / "config.json").is_file() else ""
        raise MissingModel(f"{key}: no {name} there; name a folder that PEFT saved{whole}")
    base = _read(folder / "adapter_config.json", key).get("base_model_name_or_path")
    if not isinstance(base, str) or family is None:
        return
    if (Path(base) / "config.json").is_file():
        of = _read(Path(base) / "config.json", key).get("model_type")
    else:  # a name such as Qwen/Qwen2-VL-7B-Instruct, which doesn't say whether there are experts
        word = re.sub(r"\W", "_", base.rpartition("/")[2].lower())
        of = next(
            (known for known in families() if word.startswith(f"{known}_") and not family.startswith(known)), family
        )
    if of != family:
        raise ConfigError(
            f"{key}: it was trained on {base}, a model of the family {of}, and model.path={model} is one of {family}; "
            "choose the model that it was trained on"
        )


def _read(file: Path, key: str) -> dict[str, Any]:
    """The object that a file of JSON holds; {} where it holds another value. Raises ConfigError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {file.name} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def repository_of(folder: Path) -> str | None:
    """The repository that published a folder, by the folder's name; None of any other."""
    for pattern, repository in PUBLISHED.items():
        if re.fullmatch(pattern, folder.name):
            return repository.format(name=folder.name)
    return None


def _command(folder: Path) -> str:
    if (repository := repository_of(folder)) is not None:
        return f"hf download {repository} --local-dir {folder}"
    return f"put a folder of one of the families {', '.join(families())} there, with tokenizer and processor files"


def family_of(folder: Path, key: str = "model.path") -> str:
    """The family of the model in a folder. Raises ConfigError where ktr has none for it, or it isn't said."""
    known = families()
    family = _read(folder / "config.json", f"{key}={folder}").get("model_type")
    if family in known:
        return family
    what = "no model_type" if family is None else f"model_type {family!r}"
    close = nearest(str(family), known)
    raise ConfigError(
        f"{key}={folder}: its config.json has {what}, and ktr has the families {', '.join(known)}"
        + (f" (the nearest is {close})" if close else "")
        + "; choose a model of one of them, or add its family (docs/families.md)"
    )
