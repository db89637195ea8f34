"""The `trxscan` head as a test population of the microstructure benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.physics import Noise, watson
from fornix.physics.truth import _odi_of_w2
from fornix_bench.judge.phantom import REFERENCE, Head, HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.suites.microstructure.populations import (
    WHITE,
    Array,
    Block,
    Scan,
    TestPopulation,
    _fitted,
)

#: White matter counts where streamlines hold at least this share of it: `trxscan` makes the rest a ball,
#: which no white matter is.
HELD = 0.9
#: A single population has more than the first share of all fibres, each of a crossing the second.
SINGLE, CROSSING = 0.8, 0.2
#: Directions within this of a peak belong to its population; peaks are looked for in a histogram that
#: is blurred by a Watson distribution of this kappa (10°), as its directions are 8° apart.
CONE, BLUR = 35.0, 30.0
POPULATIONS = 3


@dataclass(frozen=True, eq=False)
class Fibres:
    """Up to three populations of each of n voxels, largest first.

    axes: (n, 3, 3) unit vectors, world RAS, zero where there is none. shares: (n, 3) of all fibres of
    the voxel; what lies in no population's cone is missing from their sum. odi: (n,) mean over the
    populations of their own dispersion, the streamlines' and the one around each of them together;
    1 where there are no fibres.
    """

    axes: Array
    shares: Array
    odi: Array


@dataclass(frozen=True, eq=False)
class TrxscanPopulation(TestPopulation):
    """Scanned by `trxscan` and not by our simulator. Nothing was trained on it; what was chosen after a look
    at it is said on the benchmark's page.

    truth: `dti_`, `dki_`: fits to the noise-free signals, as of all populations; tensors of the tissue,
    or of the image with its ringing and blur (see `of_head`). All else is of the tissue:
    `noddi_ndi`: share of the sticks in the signal at b = 0 that is not water; grey matter has none.
    `noddi_odi`: of all fibres together, as `fornix.physics.truth.noddi` defines it; grey matter has no
    direction here and does not count. `noddi_fwf`: water's share of the signal at b = 0.
    `volume_ndi`, `volume_fwf`: the same of volumes, which is `trxscan`'s own icvf and isovf; water
    keeps its signal at this TE, so its share of the signal is larger. `noddi_odiw`: dispersion of one
    population, their mean.
    Deep white matter holds no water here: intervals hold that only where their lower limit is 0.
    readout: whether `scan` goes through EPI and k-space. fibres: the populations of every voxel.
    """

    __test__ = False

    head: Head | None = None
    readout: bool = True
    fibres: Fibres | None = None

    def scan(self, gradients: Gradients, snr: float, seed: int = 0) -> Scan:
        """As `TestPopulation.scan`: pure white matter's signal at b = 0 over the noise is `snr`."""
        assert self.head is not None
        made = scan_head(self.head, gradients, snr, seed, readout=self.readout)
        return Scan(made.dwi, made.sigma)

    def scored(self, name: str) -> NDArray[np.bool_]:
        """Neurites in white matter alone: grey matter is a ball here, without any; all else everywhere."""
        if name in ("noddi_ndi", "noddi_odi", "noddi_odiw"):
            return self.regions["white"]
        return super().scored(name)


def trxscan_population(
    block: Block | None = None,
    seed: int = 904,
    voxel_size: float = 2.5,
    readout: bool = True,
    imaged: bool = True,
) -> TrxscanPopulation | None:
    """The head or a block of it; None where the package or the streamlines are not on this machine.

    See `of_head`.
    """
    try:
        head = build_head(HeadConfig(block=block, seed=seed, voxel_size=voxel_size))
    except FornixError:
        return None
    return of_head(head, readout, imaged)


def of_head(head: Head, readout: bool = True, imaged: bool = True) -> TrxscanPopulation:
    """A population of a head that is there already.

    Args:
        head: Of `build_head`.
        readout: Scans go through EPI and k-space; else noise is added to the tissue's signals.
        imaged: With `readout`: tensors, and what `clean` gives, are true of the image without noise.
            Kurtosis is the tissue's even so, as no kurtosis fits where ringing lets signals rise with b.
            False is the tissue's truth, which charges every method with ringing and blur.
    """

    def tissue(gradients: Gradients) -> torch.Tensor:
        return torch.as_tensor(head.clean(gradients))

    def image(gradients: Gradients) -> torch.Tensor:
        return torch.as_tensor(scan_head(head, gradients, np.inf).dwi.signals()).clamp_min(1e-3)

    fibres = find_fibres(head)
    clean, truth = tissue, _fitted(tissue) | neurites(head, fibres)
    if readout and imaged:
        clean = image
        truth |= {k: v for k, v in _fitted(image).items() if k.startswith("dti_")}
    return TrxscanPopulation(
        "trxscan", head.mask, head.affine, clean, truth, regions(head, fibres), Noise(), REFERENCE,
        head, readout, fibres,
    )  # fmt: skip


def neurites(head: Head, fibres: Fibres) -> dict[str, Array]:
    """Truth of NODDI's quantities by name, (n,): see `TrxscanPopulation`."""
    held = head.fractions[:, 0] - head.loose
    signal = head.fractions * head.weights
    tissue, volume = signal[:, :2].sum(1), head.fractions[:, :2].sum(1)
    return {
        "noddi_ndi": head.intra * held * head.weights[0] / np.maximum(tissue, 1e-9),
        "noddi_odi": whole_odi(head),
        "noddi_fwf": signal[:, 2] / signal.sum(1),
        "noddi_odiw": fibres.odi,
        "volume_ndi": head.intra * held / np.maximum(volume, 1e-9),
        "volume_fwf": head.fractions[:, 2] / head.fractions.sum(1),
    }


def regions(head: Head, fibres: Fibres) -> dict[str, NDArray[np.bool_]]:
    """`white`: over 70% white matter that streamlines hold; `single`, `crossing` of it; `brain`."""
    white = (head.fractions[:, 0] > WHITE) & (head.loose < (1 - HELD) * head.fractions[:, 0])
    shares = fibres.shares
    found = {
        "white": white,
        "single": white & (shares[:, 0] > SINGLE),
        "crossing": white & (shares[:, 1] > CROSSING),
        "brain": np.ones_like(white),
    }
    return {k: v for k, v in found.items() if v.sum() >= 20 or k == "brain"}


def find_fibres(head: Head, block: int = 20_000) -> Fibres:
    """Populations of every voxel: the cone around the highest peak is taken out three times.

    They are found as the streamlines run; the Watson dispersion around each streamline multiplies the
    second moments, which is exact.
    """
    histogram, vertices, kappa = head.bare, head.vertices, head.config.dispersion
    cosines = np.abs(vertices @ vertices.T).clip(0, 1)
    near = (cosines >= np.cos(np.radians(CONE))).astype(np.float32)
    blur = np.exp(BLUR * (cosines**2 - 1)).astype(np.float32)
    outer = (vertices[:, :, None] * vertices[:, None, :]).reshape(-1, 9).astype(np.float32)
    factor = 1.0 if kappa is None else second_moment(kappa)
    made: list[tuple[Array, Array, Array]] = []
    for start in range(0, len(histogram), block):
        left = histogram[start : start + block].copy()
        total = np.maximum(left.sum(1), 1e-12)
        axes, shares, moments = [], [], []
        for _ in range(POPULATIONS):
            own = left * near[(left @ blur).argmax(1)]
            mass = own.sum(1)
            scatter = (own @ outer).reshape(-1, 3, 3) / np.maximum(mass, 1e-12)[:, None, None]
            values, vectors = np.linalg.eigh(scatter.astype(np.float64))
            axes.append(vectors[:, :, 2] * (mass > 0)[:, None])
            shares.append(mass / total)
            moments.append(1.5 * values[:, 2] - 0.5)
            left = left - own
        share = np.stack(shares, 1).astype(np.float64)
        order = np.argsort(-share, 1)
        spread = odi_of(factor * np.stack(moments, 1))
        mean = (share * spread).sum(1) / np.maximum(share.sum(1), 1e-12)
        made.append(
            (
                np.take_along_axis(np.stack(axes, 1), order[..., None], 1),
                np.take_along_axis(share, order, 1),
                np.where(share.sum(1) > 0, mean, 1.0),
            )
        )
    return Fibres(*(np.concatenate(parts) for parts in zip(*made)))


def whole_odi(head: Head) -> Array:
    """Dispersion of all fibres of a voxel together, (n,): see `noddi` in fornix.physics.truth."""
    histogram, vertices = head.histogram, head.vertices
    outer = (vertices[:, :, None] * vertices[:, None, :]).reshape(-1, 9)
    mass = np.maximum(histogram.sum(1), 1e-12)
    scatter = (histogram @ outer / mass[:, None]).reshape(-1, 3, 3)
    top = np.linalg.eigvalsh(scatter)[:, 2]
    return np.where(histogram.sum(1) > 0, odi_of(1.5 * top - 0.5), 1.0)


def odi_of(moment: Array) -> Array:
    """2/pi atan(1/kappa) of the Watson distribution with this <P2> about its axis."""
    grid, values = _odi_of_w2()
    return np.asarray(np.interp(moment, values, grid))


def second_moment(kappa: float) -> float:
    """<P2> of a Watson distribution about its axis."""
    odi = watson.odi_from_kappa(torch.tensor(kappa, dtype=torch.float64))
    return float(watson.moments(odi, 2)[1])
