"""Motion, eddy currents and the susceptibility field against the truth of two simulators, and on real pairs.

`trxscan` is a judge: nothing is tuned on it. It samples tissue at the nearest voxel, so that its own poses
are only as exact as half of one.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.physics import simulate
from fornix.physics.phantom import Phantom
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.correction import correct_geometry
from fornix.preprocess.geometry.transform import Geometry, displacement
from fornix.preprocess.phase_encoding import PhaseEncoding
from fornix_bench.judge.phantom import MOVING, build_head
from fornix_bench.judge.scan import Faults, scan_head
from fornix_bench.table import Row

Array = NDArray[np.float64]

#: Own heads: name, protocol, motion (mm and degrees, standard deviation), eddy currents (Hz at 100 mm), SNR.
OWN = (
    ("1 + 12 at b = 1000", shells(1, (1000, 12)), 1.5, 8.0, 15.0),
    ("1 + 32 at b = 1000", shells(1, (1000, 32)), 0.8, 8.0, 20.0),
    ("1 + 32 at b = 1000, much motion", shells(1, (1000, 32)), 2.0, 8.0, 20.0),
    ("6 + 30 + 60 at b = 1000, 3000", shells(6, (1000, 30), (3000, 60)), 0.8, 8.0, 20.0),
)
#: The judge's: the same, with motion as drift, eddy currents in its own unit and lost shots.
JUDGE = (
    ("1 + 12 at b = 1000", shells(1, (1000, 12)), 3.0, 0.001, 0.0),
    ("1 + 32 at b = 1000", shells(1, (1000, 32)), 5.0, 0.0015, 0.05),
    ("1 + 20 at b = 2000", shells(1, (2000, 20)), 3.0, 0.0015, 0.05),
)
PAIRS = (
    ("siemens-xa30_b2500x20_dir-PA", "siemens-xa30_b2500x20_dir-AP"),
    ("canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_dir-AP"),
    ("uih-umr770_b930x16_dir-AP", "uih-umr770_b930x16_dir-PA"),
)


def rows(threads: int = 2, quick: bool = False, seed: int = 0) -> list[Row]:
    """One row a scan.

    `before` and `pose`: mean distance of poses over a ball of 50 mm, mm; `shift`, `turn`: of the head, mm and
    degrees; `measured`: mean distance in the brain between where signal was and where it is sought, eddy
    currents included; `lost`: slices found of those lost, and how many others.
    """
    made: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, table, motion, eddy, snr in OWN[:1] if quick else OWN:
            made.append(_own(name, table, motion, eddy, snr, 5.0 if quick else 2.5, threads, seed))
        if not quick:
            head = build_head(MOVING)
            for number, (name, table, motion, eddy, dropout) in enumerate(JUDGE):
                faults = Faults(motion=motion, eddy=eddy, dropout=dropout)
                made.append(_judged(name, head, table, faults, seed + number + 1))
    return made


def pair_rows(threads: int = 2, quick: bool = False, seed: int = 0) -> list[Row]:
    """Field of a simulated pair against the truth, and correlation of the b0s of real pairs."""
    made: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (
            simulate(
                protocol=shells(1, (1000, 6)), snr=20, seed=seed + 5, threads=threads,
                voxel_size=5.0 if quick else 2.5, artefacts=Artefacts(field=80, phase_encoding=word),
            )
            for word in ("j", "j-")
        )  # fmt: skip
        start = time.perf_counter()
        acquisition = Acquisition(PhaseEncoding(1), other.dwi, PhaseEncoding(1, -1))
        found = correct_geometry(brain_mask(one.dwi), acquisition).field
        assert found is not None and one.artefact_truth is not None
        error = np.abs(found.hz - one.artefact_truth.field_map)[one.mask]
        error *= 0.05 * float(one.dwi.voxel_size[1])
        made.append(
            {
                "scan": "simulated pair", "median error mm": float(np.median(error)),
                "95% error mm": float(np.percentile(error, 95)), "r before": found.before,
                "r after": found.after, "seconds": time.perf_counter() - start,
            }
        )  # fmt: skip
        folder = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"
        for name, partner in () if quick else PAIRS:
            dwi = brain_mask(load(folder / name / "dwi.nii.gz"))
            start = time.perf_counter()
            pair = Acquisition.of(dwi, load(folder / partner / "dwi.nii.gz"))
            field = correct_geometry(dwi, pair).field
            assert field is not None
            made.append(
                {
                    "scan": name, "r before": field.before, "r after": field.after,
                    "seconds": time.perf_counter() - start,
                }
            )  # fmt: skip
    return made


def _own(
    name: str, table: Gradients, motion: float, eddy: float, snr: float, size: float, threads: int, seed: int
) -> Row:  # fmt: skip
    made = simulate(
        protocol=table, snr=snr, voxel_size=size, seed=seed + 1, threads=threads,
        artefacts=Artefacts(eddy=eddy, motion_mm=motion, motion_degrees=motion, dropout=0.01),
    )  # fmt: skip
    truth = made.artefact_truth
    assert truth is not None
    encoding = PhaseEncoding(1, 1, truth.artefacts.readout_time)
    poses = _poses(truth.rotations, truth.motion[:, :3], truth.centre)
    start = time.perf_counter()
    found = correct_geometry(brain_mask(made.dwi), Acquisition(encoding)).aligned
    seconds = time.perf_counter() - start
    assert found is not None
    lost = np.zeros_like(found.lost)
    for drop in truth.dropped:
        lost[drop.volume, drop.slice] = True
    true = Geometry(made.dwi.affine, made.dwi.grid, poses, encoding, truth.eddy)
    return {
        "simulator": "own", "scan": name, **_pose_errors(found.geometry, poses, truth.centre),
        "measured": _distance(found.geometry, true, made),
        "lost": f"{(found.lost & lost).sum()} of {lost.sum()}, {(found.lost & ~lost).sum()} others",
        "seconds": seconds,
    }  # fmt: skip


def _judged(name: str, head: object, table: Gradients, faults: Faults, seed: int) -> Row:
    scan = scan_head(head, table, snr=20, seed=seed, faults=faults)  # type: ignore[arg-type]
    assert scan.poses is not None
    scene = head.scene  # type: ignore[attr-defined]
    centre = (np.array(scene.affine) @ np.r_[(np.array(scene.dims) - 1) / 2, 1])[:3]
    turns = Rotation.from_euler("xyz", scan.poses[:, 3:], degrees=True).as_matrix()
    poses = _poses(turns, scan.poses[:, :3], centre)
    start = time.perf_counter()
    found = correct_geometry(brain_mask(scan.dwi)).aligned
    seconds = time.perf_counter() - start
    assert found is not None
    return {
        "simulator": "trxscan", "scan": name, **_pose_errors(found.geometry, poses, centre),
        "seconds": seconds,
    }  # fmt: skip


def _poses(turns: Array, shifts: Array, centre: Array) -> Array:
    poses = np.tile(np.eye(4), (len(turns), 1, 1))
    poses[:, :3, :3] = turns
    poses[:, :3, 3] = centre - turns @ centre + shifts
    return poses


def _pose_errors(found: Geometry, poses: Array, centre: Array) -> Row:
    still = np.tile(np.eye(4), (len(poses), 1, 1))
    ends = [p[:, :3, :3] @ centre + p[:, :3, 3] for p in (found.poses, poses)]
    between = found.poses[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2)
    error = displacement(found.poses, poses, centre)
    return {
        "before": float(displacement(still, poses, centre)[1:].mean()),
        "pose": float(error[1:].mean()),
        "worst": float(error.max()),
        "shift": float(np.linalg.norm(ends[0] - ends[1], axis=1)[1:].mean()),
        "turn": float(np.degrees(Rotation.from_matrix(between).magnitude())[1:].mean()),
    }


def _distance(found: Geometry, true: Geometry, made: Phantom) -> float:
    places, out = np.argwhere(made.mask)[::37].astype(np.float64), []
    for v in range(1, len(true.poses)):
        ends = []
        for geometry in (found, true):
            at, shift, _ = geometry.measured(v, places)
            at = at.astype(np.float64)
            at[:, 1] += shift
            ends.append(at)
        out.append(np.linalg.norm((ends[0] - ends[1]) * made.dwi.voxel_size, axis=1).mean())
    return float(np.mean(out))
