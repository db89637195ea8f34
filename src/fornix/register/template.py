"""The template that ships: an average head in MNI space, as features for registration and as images."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.io.files import atomic
from fornix.register.features import Features, shape_tensor
from fornix.register.grids import Lattice

Array = NDArray[np.float32]

PATH = Path(__file__).parent / "mni.npz"


@dataclass(frozen=True, eq=False)
class Template:
    """An average head.

    Attributes:
        affine: (4, 4) voxel to world, MNI mm, axes RAS.
        tissue: (6, X, Y, Z) probabilities of the classes after the background in `tissue_classes.CLASSES`.
        left: (X, Y, Z) probability of the left side.
        fa: (X, Y, Z) fractional anisotropy.
        peaks: (X, Y, Z, 3, 3) up to three directions in world axes, as long as their anisotropy.
    """

    affine: NDArray[np.float64]
    tissue: Array
    left: Array
    fa: Array
    peaks: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        x, y, z = self.fa.shape
        return x, y, z

    def features(self) -> Features:
        """What heads are matched by."""
        size = np.linalg.norm(self.peaks, axis=-1, keepdims=True)
        axes = self.peaks / np.maximum(np.sqrt(size), 1e-6)  # u u^T times the anisotropy
        dyads = np.einsum("...pi,...pj->...ij", axes, axes)
        six = np.stack(
            [dyads[..., i, j] for i, j in zip((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))], -1
        )
        shape = np.moveaxis(shape_tensor(six, self.fa), -1, 0)
        return Features(
            Lattice(self.affine, self.shape),
            torch.from_numpy(self.tissue),
            torch.from_numpy(self.left),
            torch.from_numpy(np.ascontiguousarray(shape)),
        )


def save_template(template: Template, path: Path) -> Path:
    """Write a template: bytes, compressed (about 2 MB for a head at 2 mm)."""
    size = float(np.abs(template.peaks).max()) or 1.0
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            affine=template.affine,
            tissue=_bytes(template.tissue),
            left=_bytes(template.left),
            fa=_bytes(template.fa),
            peaks=np.rint(template.peaks / size * 127).astype(np.int8),
            peak_size=np.float32(size),
        )
    return path


@lru_cache(maxsize=1)
def mni_template(path: Path = PATH) -> Template:
    """The template that ships, 2 mm; kept once read."""
    return load_template(path)


def load_template(path: Path) -> Template:
    """Read a template that `save_template` wrote.

    Raises:
        FornixError: The file is missing or is no template.
    """
    try:
        with np.load(path) as stored:
            return Template(
                stored["affine"],
                _numbers(stored["tissue"]),
                _numbers(stored["left"]),
                _numbers(stored["fa"]),
                stored["peaks"].astype(np.float32) * (float(stored["peak_size"]) / 127),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FornixError(
            f"{path} is no template as fornix template writes them: {str(error)[:80]}"
        ) from None


def _bytes(values: Array) -> NDArray[np.uint8]:
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _numbers(values: NDArray[np.uint8]) -> Array:
    return np.asarray(values / np.float32(255), np.float32)
