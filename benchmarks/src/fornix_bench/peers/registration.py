"""ANTs' registration (antspyx), as a pair of maps of points like our own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.register.grids import Lattice
from fornix.register.warp import DisplacementMap

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PeerWarp:
    """Where points lie, both ways, and the seconds that finding it took."""

    to_fixed: DisplacementMap
    to_moving: DisplacementMap
    seconds: float


def ants() -> Any:
    """The package, or a FornixError that says how to get it."""
    try:
        import ants as package
    except ImportError as missing:
        raise FornixError("this needs ANTs: pip install antspyx") from missing
    return package


def ants_syn(moving: Array, own: Lattice, fixed: Array, other: Lattice, seed: int = 0) -> PeerWarp:
    """Affine, then SyN with mutual information, its default, of one image onto another.

    Avants et al., Medical Image Analysis 2008.

    Args:
        moving: (X, Y, Z) FA of a scan.
        own: Its grid.
        fixed: (X, Y, Z) FA of the template.
        other: Its grid.
        seed: Of ANTs' sampling.
    """
    package = ants()
    with tempfile.TemporaryDirectory() as folder:
        read = [
            _image(package, Path(folder) / f"{i}.nii.gz", image, lattice)
            for i, (image, lattice) in enumerate(((moving, own), (fixed, other)))
        ]
        start = time.perf_counter()
        found = package.registration(
            fixed=read[1], moving=read[0], type_of_transform="SyN", random_seed=seed,
            outprefix=f"{folder}/t_",
        )  # fmt: skip
        seconds = time.perf_counter() - start
        # Images of coordinates carried over tell where every voxel lies in the other head.
        to_moving = _carried(
            package, folder, own, read[1], other, found["fwdtransforms"], [False, False]
        )
        to_fixed = _carried(
            package, folder, other, read[0], own, found["invtransforms"], [True, False]
        )
    return PeerWarp(to_fixed, to_moving, seconds)


def _image(package: Any, path: Path, image: Array, lattice: Lattice) -> Any:
    nib.save(nib.Nifti1Image(np.asarray(image, np.float32), lattice.affine), path)
    return package.image_read(str(path))


def _carried(
    package: Any, folder: str, source: Lattice, onto: Any, target: Lattice, transforms: list[str],
    invert: list[bool],
) -> DisplacementMap:  # fmt: skip
    world = source.points().numpy()
    place = []
    for axis in range(3):
        image = _image(package, Path(folder) / f"w{axis}.nii.gz", world[..., axis], source)
        made = package.apply_transforms(
            fixed=onto, moving=image, transformlist=transforms, whichtoinvert=invert,
            interpolator="linear", defaultvalue=1e4,
        )  # fmt: skip
        place.append(made.numpy())
    away = np.stack(place) - np.moveaxis(target.points().numpy(), -1, 0)
    return DisplacementMap(torch.from_numpy(away.astype(np.float32)), target)
