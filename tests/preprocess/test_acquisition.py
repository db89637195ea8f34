"""What sidecars say of a scan, in any storage order of the scan and its partner."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.preprocess.acquisition import Acquisition


def scan(meta=(), affine=None) -> DWI:
    table = Gradients(np.zeros(1), np.zeros((1, 3)))
    affine = np.diag([2.0, 2, 3, 1]) if affine is None else affine
    return DWI(np.ones((4, 4, 4, 1), np.float32), table, affine, meta=dict(meta))


def test_slices_and_partial_fourier():
    made = Acquisition.of(scan({"PhaseEncodingDirection": "j-", "PartialFourier": 0.75}))
    assert (made.slice_axis, made.partial_fourier, str(made.encoding)) == (2, 0.75, "j-")
    assert Acquisition.of(scan({"PartialFourier": "0.875"})).partial_fourier == 0.875
    assert Acquisition.of(scan({"PartialFourier": 0.0})).partial_fourier == 1
    assert Acquisition.of(scan({"PhaseEncodingDirection": "k"})).slice_axis == 1
    assert Acquisition.of(scan({"SliceEncodingDirection": "i-"})).slice_axis == 0
    plain = Acquisition.of(scan())
    assert plain.encoding is None and not plain.doubts and not plain.interpolated


def test_interpolation_is_read():
    assert (
        "112"
        in Acquisition.of(scan({"AcquisitionMatrixPE": 96, "ReconMatrixPE": 112})).interpolated
    )
    assert "Interpolation2D" in Acquisition.of(scan({"Interpolation2D": True})).interpolated


@pytest.mark.parametrize(
    ("meta", "word"),
    [
        ({"PhaseEncodingDirection": "AP"}, "--phase-encoding"),
        ({"PhaseEncodingDirection": 3}, "--phase-encoding"),
        ({"PhaseEncodingDirection": "j", "TotalReadoutTime": 45}, "--readout-time"),
        ({"PhaseEncodingDirection": "j", "SliceEncodingDirection": "j"}, "slices along k"),
    ],
)
def test_what_a_sidecar_cannot_mean_is_a_doubt_not_the_end(meta, word):
    assert word in " ".join(Acquisition.of(scan(meta)).doubts)


def test_what_is_given_and_cannot_be_is_the_end():
    with pytest.raises(FornixError, match="--phase-encoding"):
        Acquisition.of(scan(), direction="AP")
    with pytest.raises(FornixError, match="--readout-time"):
        Acquisition.of(scan(), direction="j", readout_time=45)


def test_a_partner_of_any_storage_order_is_seen_in_the_axes_of_the_scan():
    own = scan({"PhaseEncodingDirection": "j"})
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = own.affine[:3, :3][:, order] * flips
        axis = order.index(1)
        # The other way in the world: against +y.
        word = "ijk"[axis] + ("-" if flips[axis] > 0 else "")
        partner = scan({"PhaseEncodingDirection": word}, affine)
        assert str(Acquisition.of(own, partner).reversed_encoding) == "j-", (order, flips)


def test_a_tilted_partner_is_refused():
    affine = np.diag([2.0, 2, 3, 1])
    turn = np.radians(10)
    affine[:3, :3] = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]
    with pytest.raises(FornixError, match="tilted"):
        Acquisition.of(
            scan({"PhaseEncodingDirection": "j"}), scan({"PhaseEncodingDirection": "j-"}, affine)
        )
