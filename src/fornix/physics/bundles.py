"""A head made from bundles of streamlines, with the truth that a tractogram of it is scored against.

>>> from fornix.physics import simulate
>>> from fornix.physics.bundles import from_bundles
>>> head = from_bundles("bundles", seed=1)          # doctest: +SKIP
>>> phantom = simulate(head, "dti30", snr=20)       # doctest: +SKIP

Fibre orientations, fractions and dispersion come from the streamlines (bundle_maps.py). What lies
between the bundles, and grey matter and water, come from the anatomy that the folder belongs to, or
are a shell about the bundles' ends where there is none. As the phantoms of Tractometer (Côté et al.,
MedIA 2013) and of the ISMRM 2015 challenge (Maier-Hein et al., Nature Communications 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.core.grid import flat_voxels
from fornix.core.tractogram import Tractogram
from fornix.physics.anatomy import Anatomy, Bundle, deform, from_subject
from fornix.physics.anatomy.model import Array, Endings, Streamlines
from fornix.physics.bundle_maps import Candidates, Floats, Visits, populations, visits
from fornix.physics.bundle_shell import regrid, shell

#: Dispersion within a bundle's own pieces, before they fan out.
_BUNDLE_ODI = 0.04
#: Weight of the anatomy's own fibres where no bundle runs, and the least where one does.
_BETWEEN = 0.3
_GREY_ODI = 0.55
_EXTENSIONS = (".trk", ".tck", ".trx")


def from_bundles(
    folder: str | Path,
    *,
    anatomy: str | Path | Anatomy | None = None,
    seed: int = 0,
    voxel_size: float | None = None,
    thin: tuple[float, float] = (0.5, 1.0),
    amplitude: float = 3.0,
) -> Anatomy:
    """A head whose fibres are those of a folder of bundles, deformed and thinned at random.

    The bundles of the result hold what is true: `streamlines` (world mm, all begin at the same end),
    `mask` (the voxels they pass through), `orientation`, and `endings`.

    Args:
        folder: Holds one trk, tck or trx file per bundle (the file's name is the bundle's), or an
            anatomy laid out like `anatomy.from_subject`, whose bundles72/TOM_trackings are then taken.
        anatomy: Grey matter, water and the fibres between the bundles: a folder for `from_subject`, an
            Anatomy, or None, which takes the anatomy that the folder lies in, and a plain shell about
            the bundles where it lies in none.
        seed: Of the deformation and of which streamlines are kept.
        voxel_size: mm; None is the anatomy's own, or 2.5 for a shell.
        thin: The share of each bundle's streamlines that is kept is drawn between these two.
        amplitude: Root-mean-square displacement of the deformation, mm; 0 deforms nothing.

    Raises:
        FornixError: Where the folder holds no tractogram, one cannot be read, or the bundles lie
            outside the anatomy.
    """
    low, high = thin
    if not 0 < low <= high <= 1:
        raise FornixError(f"thin must be two shares with 0 < low <= high <= 1, not {thin}")
    if amplitude < 0:
        raise FornixError(f"the deformation's amplitude must be 0 mm or more, not {amplitude:g}")
    if voxel_size is not None and not 0.5 <= voxel_size <= 10:
        raise FornixError(f"voxel_size must lie between 0.5 and 10 mm, not {voxel_size:g}")
    lines, home = _read(Path(folder))
    base = _base(anatomy if anatomy is not None else home, lines, voxel_size)
    _check_inside(lines, base)
    rng = np.random.default_rng([seed, 41])
    kept = {name: _thinned(made, rng, rng.uniform(low, high)) for name, made in lines.items()}
    carried = base.with_(
        bundles={
            name: Bundle(name, _never, partial(list, made), _never) for name, made in kept.items()
        }
    )
    if amplitude > 0:
        carried = deform(carried, seed, amplitude=amplitude)
    return _woven(carried)


def _never() -> Any:
    raise AssertionError("made from the streamlines later")


def _read(folder: Path) -> tuple[dict[str, Streamlines], Path | None]:
    """Streamlines by bundle, and the anatomy's folder that they belong to."""
    if not folder.is_dir():
        raise FornixError(f"{folder} is not a folder; give one that holds trk, tck or trx files")
    home = _home(folder.resolve())
    subject = None if home is None else from_subject(home)
    if subject is not None and subject.bundles:
        return {name: b.streamlines for name, b in subject.bundles.items()}, home
    files = sorted(p for p in folder.iterdir() if p.suffix in _EXTENSIONS)
    if not files:
        raise FornixError(f"{folder} holds no bundle; one trk, tck or trx file each is needed")
    return {p.stem: _file_lines(p) for p in files}, None


def _home(folder: Path) -> Path | None:
    """The anatomy that a folder is, or whose bundles it holds."""
    for home, inside in (
        (folder, "."),
        (folder.parent, "bundles72"),
        (folder.parent.parent, "bundles72/TOM_trackings"),
    ):
        if (home / "bedpostx").is_dir() and folder == home / inside:
            return home
    return None


def _file_lines(path: Path) -> Streamlines:
    from fornix.io.tractograms import read_streamlines

    points, offsets = read_streamlines(path)
    lines = [points[a:b] for a, b in pairwise(offsets) if b - a > 1]
    if not lines:
        raise FornixError(f"{path} holds no streamline; leave it out of the folder")
    return lines


def _base(
    given: str | Path | Anatomy | None, lines: Mapping[str, Streamlines], voxel_size: float | None
) -> Anatomy:
    if given is None:
        return shell(lines, voxel_size or 2.5)
    head = given if isinstance(given, Anatomy) else from_subject(given)
    edges = np.linalg.norm(head.affine[:3, :3], axis=0)
    if voxel_size is None or np.allclose(edges, voxel_size, atol=1e-3):
        return head.with_(bundles={})
    return regrid(head, voxel_size)


def _check_inside(lines: Mapping[str, Streamlines], base: Anatomy) -> None:
    for name, made in lines.items():
        inside = flat_voxels(np.concatenate(made), base.affine, base.grid)[1].mean()
        if inside < 0.5:
            raise FornixError(
                f"bundle {name}: {100 * (1 - inside):.0f}% of its points lie outside the anatomy's "
                "grid; the streamlines belong to another head or another space"
            )


def _thinned(lines: Streamlines, rng: np.random.Generator, share: float) -> Streamlines:
    count = max(1, round(share * len(lines)))
    chosen = np.sort(rng.choice(len(lines), size=count, replace=False))
    return one_way([np.asarray(lines[i], dtype=np.float32) for i in chosen])


def one_way(lines: Streamlines) -> Streamlines:
    """The streamlines, turned so that all begin at the same end of the bundle.

    Two means of the end points, found by turning round whichever streamline fits them better so.
    """
    ends = np.array([[line[0], line[-1]] for line in lines], dtype=np.float64)
    turned = np.zeros(len(lines), bool)
    for _ in range(20):
        now = np.where(turned[:, None, None], ends[:, ::-1], ends)
        first, last = now[:, 0].mean(0), now[:, 1].mean(0)
        if _ == 0:  # the longest span tells the two ends apart where directions are mixed
            first, last = ends[np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).argmax()]
        stay = np.linalg.norm(ends[:, 0] - first, axis=1) + np.linalg.norm(
            ends[:, 1] - last, axis=1
        )
        turn = np.linalg.norm(ends[:, 1] - first, axis=1) + np.linalg.norm(
            ends[:, 0] - last, axis=1
        )
        if _ > 0 and np.array_equal(turn < stay, turned):
            break
        turned = turn < stay
    return [line[::-1].copy() if t else line for line, t in zip(lines, turned)]


def _woven(carried: Anatomy) -> Anatomy:
    """The anatomy with its fibres replaced by those of its bundles, and the bundles' truth."""
    grid, affine, mask = carried.grid, carried.affine, carried.mask
    row_of = np.full(mask.size, -1, dtype=np.int64)
    row_of[mask.ravel()] = np.arange(int(mask.sum()))
    made: dict[str, Bundle] = {}
    parts: list[Candidates] = []
    full = np.zeros(mask.size)
    ends = np.zeros(mask.size)
    for number, (name, bundle) in enumerate(carried.bundles.items()):
        track = Tractogram.from_list(bundle.streamlines, affine, grid)
        found = visits(track.points, track.offsets, affine, grid)
        begin, end = end_regions(bundle.streamlines, affine, grid)
        ends[(begin | end).ravel()] += 1
        inside = row_of[found.voxels] >= 0
        fill = found.fill()
        full[found.voxels] = np.maximum(full[found.voxels], fill)
        parts.append(
            Candidates(
                row_of[found.voxels[inside]],
                np.full(int(inside.sum()), number),
                fill[inside],
                found.dyads[inside],
                np.full(int(inside.sum()), _BUNDLE_ODI),
            )
        )
        made[name] = Bundle(
            name,
            partial(_volume, found, grid),
            partial(list, bundle.streamlines),
            partial(_endings, begin, end),
        )
    between = _between(carried, full[mask.ravel()], len(made))
    joined = Candidates(
        *(
            np.concatenate([getattr(p, field) for p in [*parts, between]])
            for field in ("voxels", "source", "weight", "dyads", "odi")
        )
    )
    mu, share, spread = populations(joined, int(mask.sum()))
    wm, gm = _white(carried, full.reshape(grid), ends.reshape(grid) > 0)
    white = (wm / np.maximum(wm + gm, 1e-3))[mask][:, None]
    odi = np.clip(white * spread + (1 - white) * np.maximum(spread, _GREY_ODI), 0.02, 0.95)
    return carried.with_(
        mu=_on(mask, mu),
        fraction=_on(mask, share),
        odi=_on(mask, odi),
        wm=wm,
        gm=gm,
        bundles=made,
    )


def _between(head: Anatomy, full: Floats, sources: int) -> Candidates:
    """The anatomy's own fibres, where bundles leave room."""
    share = head.fraction[head.mask].astype(np.float64)
    mu = head.mu[head.mask].astype(np.float64)
    odi = head.odi[head.mask].astype(np.float64)
    count = len(share)
    weight = share * (_BETWEEN * np.clip(1 - full, 0, 1) + 1e-6)[:, None]
    return Candidates(
        np.repeat(np.arange(count), 3),
        np.tile(sources + np.arange(3), count),
        weight.ravel(),
        (mu[..., :, None] * mu[..., None, :]).reshape(-1, 3, 3),
        odi.ravel(),
    )


def _white(head: Anatomy, full: Floats, ends: NDArray[np.bool_]) -> tuple[Array, Array]:
    """White and grey matter: where bundles run and do not end, there is white matter."""
    edges = np.linalg.norm(head.affine[:3, :3], axis=0)
    near = ndimage.gaussian_filter(ends.astype(np.float64), 1.5 / edges)
    inside = np.clip(full * (1 - np.clip(2 * near, 0, 1)), 0, 1) * (1 - head.csf)
    wm = np.maximum(head.wm, inside) * head.mask
    gm = np.clip(1 - wm - head.csf, 0, 1) * head.mask
    return wm.astype(np.float32), gm.astype(np.float32)


def end_regions(lines: Streamlines, affine: Floats, grid: tuple[int, int, int]) -> Endings:
    """The voxels where streamlines begin and where they end, one voxel wider, never both.

    Args:
        lines: All begin at the same end. A voxel near both belongs to the end that more of them have
            there.
        affine: (4, 4) voxel to world, mm.
        grid: (X, Y, Z).
    """
    counts = []
    for which in (0, -1):
        flat, inside = flat_voxels(np.array([line[which] for line in lines]), affine, grid)
        counts.append(
            np.bincount(flat[inside], minlength=int(np.prod(grid))).reshape(grid).astype(np.float64)
        )
    wider = [ndimage.binary_dilation(c > 0) for c in counts]
    near = [ndimage.uniform_filter(c, 3) for c in counts]
    begins = near[0] >= near[1]
    return wider[0] & (begins | ~wider[1]), wider[1] & (~begins | ~wider[0])


def _volume(found: Visits, grid: tuple[int, int, int]) -> tuple[NDArray[np.bool_], Array]:
    mask = np.zeros(grid, bool)
    orientation = np.zeros((*grid, 3), np.float32)
    mask.ravel()[found.voxels] = True
    orientation.reshape(-1, 3)[found.voxels] = found.axes()
    return mask, orientation


def _endings(begin: NDArray[np.bool_], end: NDArray[np.bool_]) -> Endings:
    return begin, end


def _on(mask: NDArray[np.bool_], values: Floats) -> Array:
    out = np.zeros((*mask.shape, *values.shape[1:]), np.float32)
    out[mask] = values
    return out
