"""A whole head for `trxscan`, another group's simulator, and what is true of it.

White matter is the atlas's streamlines, each a few times with a shift of about a millimetre; how much
of a voxel is white, grey and water comes from nilearn's MNI maps. `trxscan` (Cieslak, PennLINC) lays
the streamlines into a histogram of 321 directions in every voxel of a grid that is finer in plane, and
gives each direction a stick (1.7 µm²/ms) and a zeppelin (1.7 along, 0.6 across); grey matter is two
balls, water one (3 µm²/ms). Its adult tissue is 55% sticks everywhere; its myelin map lets that vary
here. All truth here comes from that histogram and `trxscan`'s own signals.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice, slice]

#: The b = 0 signal of a voxel that holds nothing but fibres.
REFERENCE = 1000.0
#: Voxels with less than this share of tissue and water are outside of the head.
INSIDE = 0.5
#: Slices whose histograms are held in memory together.
SLAB = 8
#: Hz at places (MNI, mm) beside air: frontal sinus, sphenoid, both ear canals; width in mm.
SINUSES = ((0, 52, -18, 14), (0, 30, -22, 12), (48, -18, -28, 12), (-48, -18, -28, 12))


def trxscan() -> Any:
    """The package, or a FornixError that says how to get it."""
    try:
        return importlib.import_module("trxscan")
    except ImportError as missing:
        raise FornixError("this needs trxscan: pip install trxscan") from missing


@dataclass(frozen=True, eq=False)
class HeadConfig:
    """What is built.

    voxel_size: mm. copies: times that each streamline is laid down. jitter: standard deviation of their
    shifts, mm. dispersion: kappa of the Watson distribution around every streamline, 19° (root mean
    square) here; None is none. sharpness: the maps' fractions are raised to it, as a mean of many heads
    is blurred. densest: share of sticks in fibres where it is highest, smoothly down to the adult
    tissue's 0.55; None is 0.55 everywhere. te, readout_time: ms. block: voxels (X, Y, Z) around the
    middle of white matter, None is the whole head. seed: of shifts and all smooth maps.
    """

    voxel_size: float = 2.5
    copies: int = 4
    jitter: float = 1.0
    dispersion: float | None = 10.0
    sharpness: float = 2.0
    densest: float | None = 0.75
    te: float = 90.0
    readout_time: float = 45.0
    block: tuple[int, int, int] | None = None
    seed: int = 0


#: `trxscan` leaves dispersion and varying tissue out of heads that move.
MOVING = HeadConfig(dispersion=None, densest=None)


@dataclass(frozen=True, eq=False)
class Head:
    """A head on the grid of its scans, with what is true in each of its n voxels.

    scene, protocol: `trxscan`'s object and settings of the whole head. window: part of its grid that is
    scanned. mask: (X, Y, Z) bool, n voxels, of the window. affine: the window's, world RAS mm.
    fractions: (n, 3) volumes of white, grey, water; they sum to at most 1.
    loose: (n,) volume of white matter that no streamline crosses; `trxscan` makes it a ball.
    intra: (n,) share of sticks in the fibres.
    histogram: (n, 321) volume of fibres by direction, dispersion included; bare: without it, as the
    streamlines run. vertices: (321, 3) those directions, world RAS.
    """

    config: HeadConfig
    scene: Any
    protocol: Any
    window: Window
    mask: Mask
    affine: Array
    fractions: Array
    loose: Array
    intra: Array
    histogram: NDArray[np.float32]
    bare: NDArray[np.float32]
    vertices: Array

    def __len__(self) -> int:
        return len(self.fractions)

    @cached_property
    def weights(self) -> Array:
        """What a unit of fibres, grey matter and water gives at b = 0 and this TE, (3,)."""
        t2 = np.array(self.protocol.tissue.t2_ms)
        decay = np.exp(-self.config.te / t2)
        return np.asarray(REFERENCE * decay / decay[0])

    def clean(self, gradients: Gradients) -> Array:
        """Signals without noise or any artefact, (n, N): the mean over the finer grid's voxels."""
        own, ball, grey, water = self.kernels(gradients, self.protocol.tissue)
        adult = self.kernels(gradients, trxscan().Tissue.ADULT)[0]
        # `trxscan` moves the share of sticks towards its adult's, and signals are linear in it.
        few, many = trxscan().Tissue.ADULT.intra_frac, self.protocol.tissue.intra_frac
        share = (self.intra - few) / (many - few) if many != few else np.ones(len(self))
        made = share[:, None] * (self.histogram @ own.astype(np.float32))
        made += (1 - share[:, None]) * (self.histogram @ adult.astype(np.float32))
        made += self.loose[:, None] * ball
        made *= self.weights[0]
        made += self.fractions[:, 1:2] * (self.weights[1] * grey)
        return np.asarray(made + self.fractions[:, 2:] * (self.weights[2] * water))

    def kernels(self, gradients: Gradients, tissue: Any) -> tuple[Array, Array, Array, Array]:
        """`trxscan`'s signals of one direction (321, N), a ball of white matter, grey, water (N,)."""
        core = trxscan()._core
        b, axes = gradients.bvals, np.ascontiguousarray(gradients.directions)
        # Its b-values are shares of the largest, which its parameters hold.
        params = tissue.to_params(float(b.max()) or 1000.0)
        one, none = np.ones(1), np.zeros((0, 3))
        axis = np.ascontiguousarray(self.vertices)[:, None]
        fibre = np.stack(
            [core.voxel_signal(b, axes, v, one, 1.0, 0.0, 0.0, params)[0] for v in axis]
        )
        ball = core.voxel_signal(b, axes, none, one[:0], 1.0, 0.0, 0.0, params)[0]
        grey = core.voxel_signal(b, axes, none, one[:0], 0.0, 1.0, 0.0, params)[1]
        water = core.voxel_signal(b, axes, none, one[:0], 0.0, 0.0, 1.0, params)[2]
        return fibre, np.asarray(ball), np.asarray(grey), np.asarray(water)


def build_head(config: HeadConfig = HeadConfig(), data: str | Path | None = None) -> Head:
    """The head of this configuration; about half a minute on one core for all of it at 2.5 mm.

    data: folder that holds `atlas/adult1065/bundles`; FORNIX_TEST_DATA or ../shared/data if absent.
    """
    ts = trxscan()
    rng = np.random.default_rng([config.seed, 71])
    folder = Path(data or os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    fractions, affine = tissue_maps(config.sharpness)
    field = off_resonance(rng)
    lines = jittered(folder / "atlas" / "adult1065" / "bundles", config, rng)
    volumes = {
        k: nib.Nifti1Image(fractions[..., i], affine) for i, k in enumerate(("wm", "gm", "csf"))
    }
    anatomy = ts.Phantom.from_files(**volumes, streamlines=lines, fieldmap=field, name="trxscan")
    protocol = ts.Protocol.DEFAULT.replace(
        voxel_mm=config.voxel_size, oversample=2, pad=(2, 6, 1), te_ms=config.te,
        readout_ms=config.readout_time, kappa=config.dispersion,
    )  # fmt: skip
    if config.densest is not None:
        dense = ts.Tissue.ADULT.replace(intra_frac=config.densest, extra_frac=1 - config.densest)
        protocol = protocol.replace(tissue=dense)
    # A unit of fibres gives REFERENCE at b = 0.
    protocol = protocol.replace(
        signal_scale=REFERENCE * np.exp(config.te / protocol.tissue.t2_fiber)
    )
    scene = anatomy.grid(protocol)
    if config.densest is not None:
        adult = 0.5 + 0.5 * _smooth(scene.dims, rng)
        # The same in all of a voxel's finer ones, so that the voxel's share is exactly this.
        adult = adult.repeat(scene.oversample, 0).repeat(scene.oversample, 1)
        scene = scene.with_myelin(adult.astype(np.float32))
    return of_scene(scene, protocol, config)


def of_scene(scene: Any, protocol: Any, config: HeadConfig) -> Head:
    """What is true of a `trxscan` Object that is scanned with `protocol`."""
    white = np.asarray(scene.image("wm").dataobj)
    window = _middle(white > 0.7, config.block)
    slabs, masks = [], []
    for start in range(window[2].start, window[2].stop, SLAB):
        part = scene.slab(start, min(start + SLAB, window[2].stop))
        bare = _mixture(scene, part, protocol, None)
        kappa = config.dispersion
        blurred = bare if kappa is None else _mixture(scene, part, protocol, kappa)
        volumes = np.stack([np.asarray(f) for f in bare.fractions()], -1)
        volumes[part.sim_mask < 0.5] = 0  # `trxscan` makes what lies there silent
        empty = np.asarray(bare.fallback())
        held, loose = volumes[:, 0] * (1 - empty), volumes[:, 0] * empty
        adult = np.zeros_like(held) if part.myelin is None else part.myelin
        found = (volumes, loose, adult, _shares(blurred, held), _shares(bare, held))
        inside = (_coarse(volumes.sum(1), part) >= INSIDE)[window[:2]]
        masks.append(inside)
        slabs.append([_coarse(f, part)[window[:2]][inside] for f in found])
    # A slab's voxels follow each other; those of a mask run x, y, z over all slabs.
    order = np.argsort(_places(masks), kind="stable")
    volumes, loose, adult, worn, plain = (np.concatenate(parts)[order] for parts in zip(*slabs))
    affine = np.array(scene.affine)
    affine[:3, 3] += affine[:3, :3] @ np.array([w.start for w in window])
    few, many = trxscan().Tissue.ADULT.intra_frac, protocol.tissue.intra_frac
    intra = many + (few - many) * adult.astype(np.float64)
    vertices = np.array(bare.sphere_vertices(), np.float64).reshape(-1, 3)
    mask = np.concatenate(masks, 2)
    return Head(
        config, scene, protocol, window, mask, affine, volumes.astype(np.float64),
        loose.astype(np.float64), intra, worn, plain, vertices,
    )  # fmt: skip


def tissue_maps(sharpness: float) -> tuple[NDArray[np.float32], Array]:
    """Shares of white, grey and water (X, Y, Z, 3) in MNI space at 1 mm, and the affine."""
    maps = importlib.import_module("nilearn.datasets")
    white = maps.load_mni152_wm_template(resolution=1)
    grey = maps.load_mni152_gm_template(resolution=1).get_fdata()
    brain = maps.load_mni152_brain_mask(resolution=1).get_fdata() > 0
    found = np.stack([white.get_fdata(), grey], -1).clip(0, 1)
    water = (1 - found.sum(-1)).clip(0, 1)
    found = np.concatenate([found, water[..., None]], -1) ** sharpness
    found *= brain[..., None] / np.maximum(found.sum(-1, keepdims=True), 1e-6)
    return found.astype(np.float32), np.asarray(white.affine, np.float64)


def off_resonance(rng: np.random.Generator, step: float = 4.0) -> Any:
    """Image of Hz over the head (MNI) every 4 mm: smooth within ±40, up to 90 more beside air."""
    grid = (50, 60, 50)
    coarse = np.diag([step, step, step, 1.0])
    coarse[:3, 3] = (-98, -134, -80)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in grid], indexing="ij"), -1)
    world = places @ coarse[:3, :3].T + coarse[:3, 3]
    made = 40 * _smooth(grid, rng)
    for *centre, width in SINUSES:
        made += 90 * np.exp(-((world - centre) ** 2).sum(-1) / (2 * width**2))
    return nib.Nifti1Image(made.astype(np.float32), coarse)


def jittered(folder: Path, config: HeadConfig, rng: np.random.Generator) -> Any:
    """`trxscan` Streamlines: all of the folder's, and copies of each that are shifted as a whole."""
    files = sorted(folder.glob("*.tck"))
    if not files:
        raise FornixError(f"no .tck files in {folder}; set FORNIX_TEST_DATA to the data's folder")
    lines = [line for f in files for line in nib.streamlines.load(f).streamlines]
    counts = np.array([len(line) for line in lines])
    points = np.concatenate(lines).astype(np.float64)
    shifts = rng.normal(0, config.jitter, (config.copies, len(lines), 3))
    shifts[0] = 0
    moved = [points + np.repeat(s, counts, 0) for s in shifts]
    offsets = np.r_[0, np.cumsum(np.tile(counts, config.copies))]
    return trxscan().Streamlines(np.concatenate(moved), offsets)


def _smooth(grid: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A random smooth map within ±1, about four waves across."""
    made = ndimage.zoom(rng.standard_normal((5, 5, 5)), np.array(grid) / 5, order=3)
    return np.asarray(made / np.abs(made).max())


def _mixture(scene: Any, part: Any, protocol: Any, kappa: float | None) -> Any:
    """`trxscan`'s histogram of a slab, built as its own `simulate` does."""
    core = trxscan()._core
    params = protocol.tissue.to_params(1000.0)
    tissue = (part.sim_wm, part.sim_gm, part.sim_csf, part.sim_mask)
    if part.fibers is not None:
        f = part.fibers
        return core.mixture_from_fibers(
            part.sim_dims, f.voxel, f.dirs, f.weight, *tissue, params, kappa
        )
    first = part.z_offset - scene.z_offset
    lines = scene.streamlines.crop_k(scene.affine, first - 3, first + part.dims[2] + 3)
    return core.build_mixture(
        part.sim_dims, *tissue, part.sim_affine, lines.positions, lines.offsets, lines.weights, params,
        kappa, None,
    )  # fmt: skip


def _shares(mixture: Any, held: NDArray[np.float32]) -> NDArray[np.float32]:
    """Volume by direction in each voxel of the finer grid, (m, 321)."""
    mass = np.array(mixture.odf(), np.float32).reshape(len(held), -1)
    mass *= (held / np.maximum(mass.sum(1), 1e-20))[:, None]
    return mass


def _coarse(flat: NDArray[np.float32], part: Any) -> NDArray[np.float32]:
    """Means over the finer grid's voxels of each voxel: (m, ...) in x-first order -> (X, Y, Z, ...)."""
    (x, y, z), o = part.dims, part.oversample
    cells = flat.reshape(z, y, o, x, o, *flat.shape[1:]).mean((2, 4))
    return np.moveaxis(cells, (0, 2), (2, 0))


def _places(parts: list[Mask]) -> NDArray[np.int64]:
    """Where the True voxels of masks that follow each other along z lie in the whole, C order."""
    depth, start, found = sum(p.shape[2] for p in parts), 0, []
    for p in parts:
        x, y, z = np.nonzero(p)
        found.append((x * p.shape[1] + y) * depth + z + start)
        start += p.shape[2]
    return np.concatenate(found)


def _middle(white: Mask, block: tuple[int, int, int] | None) -> Window:
    centre = np.argwhere(white).mean(0) if white.any() else np.array(white.shape) / 2
    made = []
    for c, size, whole in zip(centre, block or white.shape, white.shape):
        start = int(np.clip(round(c) - size // 2, 0, max(whole - size, 0)))
        made.append(slice(start, min(start + size, whole)))
    return made[0], made[1], made[2]
