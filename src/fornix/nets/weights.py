"""Weights that ship with the package: safetensors, a card each, hashes checked, no code inside."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from fornix.core.errors import FornixError
from fornix.io.files import sha256

M = TypeVar("M", bound=nn.Module)
#: Changes when a network's code no longer reads older files.
FORMAT = 2
FOLDER = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, eq=False)
class Weights:
    """One file of weights.

    part: `net`, `conformal`, `ood`, `peaks`.

    Attributes:
        name: Of the recipe.
        sha256: Of the file.
        about: Recipe, steps and format.
        groups: Tensors by
    """

    name: str
    sha256: str
    about: dict[str, Any]
    groups: dict[str, dict[str, torch.Tensor]]

    @property
    def label(self) -> str:
        """Name and the hash's first digits, as sidecars say it."""
        return f"{self.name}:{self.sha256[:12]}"


def manifest(folder: Path = FOLDER) -> dict[str, str]:
    """sha256 of every file that ships, by name."""
    path = folder / "manifest.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def available(name: str, folder: Path = FOLDER) -> bool:
    """Whether weights of this name ship."""
    return name in manifest(folder)


@lru_cache(maxsize=8)
def load(name: str, folder: Path = FOLDER) -> Weights:
    """The weights of this name; read once.

    Raises:
        FornixError: Where they are not there, do not match their hash, or are of another format.
    """
    from safetensors import SafetensorError, safe_open

    known = manifest(folder)
    if name not in known:
        raise FornixError(f"there are no weights {name!r}; there are: {', '.join(known) or 'none'}")
    path = folder / f"{name}.safetensors"
    if not path.exists():
        raise FornixError(f"the weights {path} are missing; install fornix again")
    if sha256(path) != known[name]:
        raise FornixError(
            f"the weights {path} do not match their hash: the file is damaged or was replaced; "
            "install fornix again"
        )
    groups: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(json.loads((file.metadata() or {}).get("fornix", "{}")))
            for key in list(file.keys()):
                group, _, rest = key.partition("/")
                groups.setdefault(group, {})[rest] = file.get_tensor(key)
    except (SafetensorError, ValueError, TypeError) as error:
        raise FornixError(f"the weights {path} cannot be read: {error}") from None
    if about.get("format") != FORMAT:
        raise FornixError(
            f"the weights {path} have format {about.get('format')}, this version of fornix reads "
            f"{FORMAT}; install matching versions"
        )
    return Weights(name, known[name], about, groups)


def save(
    name: str,
    groups: dict[str, dict[str, torch.Tensor]],
    about: dict[str, Any],
    folder: Path = FOLDER,
) -> Path:
    """Write weights and their hash, by a temporary name first."""
    from safetensors.torch import save_file

    flat = {f"{g}/{k}": v.detach().cpu().contiguous() for g, part in groups.items()
            for k, v in part.items()}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{name}.safetensors", folder / f".{name}.tmp"
    save_file(flat, temporary, {"fornix": json.dumps({"format": FORMAT, **about})})
    os.replace(temporary, path)
    known = manifest(folder) | {name: sha256(path)}
    text = json.dumps(dict(sorted(known.items())), indent=2) + "\n"
    (folder / ".manifest.tmp").write_text(text)
    os.replace(folder / ".manifest.tmp", folder / "manifest.json")
    load.cache_clear()
    return path


def verify(folder: Path = FOLDER) -> dict[str, str]:
    """For each name: empty where the file is right, else what is wrong with it."""
    found = {}
    for name in manifest(folder):
        try:
            load.cache_clear()
            load(name, folder)
            found[name] = ""
        except FornixError as error:
            found[name] = str(error)
    return found


def fill(model: M, weights: Weights) -> M:
    """The model with these weights in it, ready to be asked.

    Raises:
        FornixError: Where they are of another version of it.
    """
    try:
        model.load_state_dict(weights.groups["net"])
    except (RuntimeError, KeyError):
        raise FornixError(
            f"the weights {weights.label} do not fit this version's network; install fornix again"
        ) from None
    return model.eval().requires_grad_(False)
