"""Scans of a `trxscan` head with any gradients: EPI in k-space, or tissue signals plus noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix_bench.judge.phantom import REFERENCE, SLAB, Head, trxscan

#: Slices excited together where shots drop out: `trxscan` drops whole shots of multiband scans.
MULTIBAND = 2


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a scan with `readout`; nothing by default.

    motion: mm and degrees that the head has drifted by the last volume, and a tenth of that as jumps.
    eddy: strength of linear eddy currents, realistic is 0.001 to 0.002. field: whether the head's field
    map distorts. dropout: share of weighted volumes in which a shot is lost.
    """

    motion: float = 0.0
    eddy: float = 0.0
    field: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, eq=False)
class HeadScan:
    """dwi: with its mask, in units of pure white matter = 1000 at b = 0. sigma: (X, Y, Z), standard
    deviation of one real channel. poses: (N, 6) mm and degrees of the head, or None. dropped: lost
    shots: volume, slices of the whole head, attenuation.
    """

    dwi: DWI
    sigma: NDArray[np.float32]
    poses: NDArray[np.float64] | None = None
    dropped: tuple[tuple[int, tuple[int, ...], float], ...] = ()


def scan_head(
    head: Head,
    gradients: Gradients,
    snr: float = 20.0,
    seed: int = 0,
    faults: Faults = Faults(),
    readout: bool = True,
    zero_filled: float = 0.8,
) -> HeadScan:
    """Scan the head.

    Args:
        head: Of `build_head`.
        gradients: N volumes, world RAS directions, which `trxscan` takes as they are.
        snr: Signal of pure white matter at b = 0 over the noise's standard deviation in one real
            channel; infinite is no noise.
        seed: Of noise, motion and dropout.
        faults: What goes wrong.
        readout: Through `trxscan`'s k-space: EPI with T2 and T2* decay, ringing, white noise in k-space.
            False adds noise to the tissue's signals; the head must not have faults then.
        zero_filled: Without `readout`: share of k-space that was measured, in plane. The noise is as
            correlated as zero filling makes it; 1 is white noise.

    Raises:
        FornixError: For faults without `readout`, and for motion of a head with dispersion.
    """
    if not readout and faults != Faults():
        raise FornixError("faults of the scanner need readout=True")
    if faults.motion and (head.config.dispersion is not None or head.scene.myelin is not None):
        raise FornixError("trxscan cannot move this head: build it with MOVING's configuration")
    sigma = np.full(head.mask.shape, REFERENCE / snr, np.float32)
    if not readout:
        data = _tissue_with_noise(head, gradients, REFERENCE / snr, seed, zero_filled)
        return HeadScan(_dwi(head, data, gradients, {}), sigma)
    rng = np.random.default_rng([seed, 72])
    ts = trxscan()
    protocol, poses, motion = head.protocol, None, None
    if faults.motion:
        poses = _drift(len(gradients), faults.motion, rng)
        motion = ts.Motion.from_arrays(poses, None)
    if faults.dropout:
        protocol = protocol.replace(mb=MULTIBAND)
    # Its noise is a variance of one real channel of the image, whatever the grid: see the test.
    artifacts = ts.Artifacts(
        noise=(REFERENCE / snr) ** 2, eddy=faults.eddy, distortion=faults.field,
        dropout=faults.dropout, motion=motion, seed=int(rng.integers(1 << 31)),
    )  # fmt: skip
    table = (gradients.bvals, np.ascontiguousarray(gradients.directions))
    # A slab sees no more than itself: a head that turns out of it must be simulated as a whole.
    chunk = head.scene.dims[2] if faults.motion or faults.dropout else SLAB
    done = head.scene.simulate(
        table, protocol, artifacts, slices=range(head.window[2].start, head.window[2].stop),
        chunk=chunk, kspace=False, clean_b0=False,
    )  # fmt: skip
    data = np.asarray(done.magnitude.dataobj)[head.window[:2]]
    lost = tuple((d.volume, tuple(d.slices), d.attenuation) for d in done.dropout)
    return HeadScan(_dwi(head, data, gradients, done.sidecar), sigma, poses, lost)


def _dwi(head: Head, data: NDArray[Any], gradients: Gradients, meta: dict[str, Any]) -> DWI:
    values = np.ascontiguousarray(data, np.float32)
    return DWI(values, gradients, head.affine, mask=head.mask, stem="sub-trxscan", meta=meta)


def _tissue_with_noise(
    head: Head, gradients: Gradients, sigma: float, seed: int, zero_filled: float
) -> NDArray[np.float32]:
    clean = head.clean(gradients).astype(np.float32)
    data = np.zeros((*head.mask.shape, len(gradients)), np.float32)
    data[head.mask] = clean
    if not sigma:
        return data
    keep = _measured(head.mask.shape[:2], zero_filled)
    for n in range(len(gradients)):
        rng = np.random.default_rng([seed, 73, n])
        noise = rng.standard_normal((2, *head.mask.shape))
        k = np.fft.fft2(noise[0] + 1j * noise[1], axes=(0, 1)) * keep[:, :, None]
        added = np.fft.ifft2(k, axes=(0, 1)) * (sigma / np.sqrt(keep.mean()))
        data[..., n] = np.abs(data[..., n] + added)
    return data


def _measured(grid: tuple[int, ...], share: float) -> NDArray[np.bool_]:
    """Which frequencies of a plane were measured, (X, Y): the middle `share` along both axes."""
    x, y = (np.abs(np.fft.fftfreq(n)) <= share / 2 for n in grid)
    return x[:, None] & y


def _drift(volumes: int, size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Absolute poses (N, 6), mm and degrees; the first is none."""
    ends = rng.uniform(-size, size, 6)
    poses = np.linspace(0, 1, volumes)[:, None] * ends + rng.normal(0, size / 10, (volumes, 6))
    return poses - poses[0]
