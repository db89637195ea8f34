"""A harmonization as one file: safetensors with JSON inside, a digest of both, and a card beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.version import __version__
from fornix.enhance.harmonization.combat import Combat
from fornix.enhance.harmonization.covariates import Covariate
from fornix.enhance.harmonization.model import Harmonization, MapModel
from fornix.enhance.harmonization.shrinkage import Prior
from fornix.io.files import atomic, input_file
from fornix.io.sidecar import write_sidecar
from fornix.register.grids import Lattice

#: Changes when older files are no longer read.
FORMAT = 1
_KIND = "fornix harmonization"
_ARRAYS = ("alpha", "beta", "beta_std", "sigma", "gamma", "delta", "counts")


def save_harmonization(model: Harmonization, path: str | Path) -> Path:
    """Write the model and its card (`…​.json`), by a temporary name first.

    Args:
        model: From `fit_harmonization`.
        path: Ends in `.safetensors`; the ending is added where it is missing.
    """
    from safetensors.numpy import save_file

    path = model_path(path)
    arrays: dict[str, NDArray[Any]] = {}
    maps = {}
    for name, one in model.maps.items():
        arrays |= {f"{name}/{k}": np.ascontiguousarray(getattr(one.combat, k)) for k in _ARRAYS}
        arrays[f"{name}/nodes"] = one.nodes
        maps[name] = {
            "tracts": _runs(one.tracts), "sites": one.combat.sites, "prior": vars(one.combat.prior),
            "shrinkage": one.combat.shrinkage, "scale": one.combat.scale,
        }  # fmt: skip
    about = {
        "kind": _KIND, "format": FORMAT, "version": __version__, "level": model.level, "maps": maps,
        "covariates": [c.as_json() for c in model.covariates], "about": dict(model.about),
        "lattice": None if model.lattice is None
        else {"affine": model.lattice.affine.tolist(), "shape": list(model.lattice.shape)},
    }  # fmt: skip
    text = json.dumps(about, sort_keys=True)
    digest = _digest(text, arrays)
    with atomic(path) as temporary:
        save_file(arrays, temporary, {"fornix": text, "digest": digest})
    write_sidecar(path, _card(model, digest))
    return path


def load_harmonization(path: str | Path) -> Harmonization:
    """Read a model that `save_harmonization` wrote.

    Raises:
        FornixError: It is no such file, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    path = input_file(path, "model")
    try:
        with safe_open(path, framework="np") as file:
            told = file.metadata() or {}
            text, digest = told.get("fornix", ""), told.get("digest", "")
            about = dict(json.loads(text or "{}"))
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        raise FornixError(
            f"{path} is no harmonization model, or is damaged ({str(error)[:60]}); fornix harmonize "
            "fit writes one"
        ) from None
    if about.get("kind") != _KIND:
        raise FornixError(f"{path} is no harmonization model; fornix harmonize fit writes one")
    if about["format"] != FORMAT:
        raise FornixError(
            f"{path} has format {about['format']}, this version of fornix reads {FORMAT}; fit it again"
        )
    if _digest(text, arrays) != digest:
        raise FornixError(
            f"{path} does not match its own hash: the file is damaged; fit or copy it again"
        )
    lattice = about["lattice"]
    return Harmonization(
        about["level"],
        {name: _map_model(name, told, arrays) for name, told in about["maps"].items()},
        tuple(Covariate.from_json(c) for c in about["covariates"]),
        None if lattice is None
        else Lattice(np.array(lattice["affine"]), tuple(lattice["shape"])),
        about["about"], digest,
    )  # fmt: skip


def model_path(path: str | Path) -> Path:
    """Where a model goes: its name with the ending of its format."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def _map_model(name: str, told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> MapModel:
    own = {k: arrays[f"{name}/{k}"] for k in _ARRAYS}
    combat = Combat(
        tuple(told["sites"]), **own, prior=Prior(**told["prior"]), shrinkage=told["shrinkage"],
        scale=told["scale"],
    )  # fmt: skip
    tracts = tuple(t for t, n in told["tracts"] for _ in range(n))
    return MapModel(tracts, arrays[f"{name}/nodes"], combat)


def _runs(tracts: tuple[str, ...]) -> list[tuple[str, int]]:
    """Names and how many columns in a row each has."""
    out: list[tuple[str, int]] = []
    for tract in tracts:
        if out and out[-1][0] == tract:
            out[-1] = (tract, out[-1][1] + 1)
        else:
            out.append((tract, 1))
    return out


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    made = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        made.update(f"{name} {values.dtype} {values.shape}".encode())
        made.update(values.tobytes())
    return made.hexdigest()


def _card(model: Harmonization, digest: str) -> dict[str, Any]:
    first = next(iter(model.maps.values()))
    return {
        "Description": "Harmonization of sites: what every site adds to every value, and what is kept",
        "Method": f"combat, {first.combat.shrinkage}",
        "Level": model.level,
        "Maps": {name: len(one.tracts) for name, one in model.maps.items()},
        "Sites": dict(zip(first.combat.sites, first.combat.counts.tolist())),
        "Kept": [c.as_json() for c in model.covariates],
        "Reference": "Johnson et al., Biostatistics 2007; Fortin et al., NeuroImage 2017",
        "Digest": digest,
        **model.about,
    }
