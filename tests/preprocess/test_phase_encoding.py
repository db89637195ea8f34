"""Phase encoding from sidecars of several vendors."""

from __future__ import annotations

import pytest

from fornix.core.errors import FornixError
from fornix.preprocess.phase_encoding import phase_encoding_of


@pytest.mark.parametrize(
    ("meta", "axis", "sign", "time", "known"),
    [
        ({"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.04}, 1, -1, 0.04, (True, True)),
        ({"PhaseEncodingDirection": "i"}, 0, 1, 0.05, (True, False)),
        ({"PhaseEncodingAxis": "j", "TotalReadoutTime": 0.021}, 1, 1, 0.021, (False, True)),
        ({"PhaseEncodingDirection": "k", "EffectiveEchoSpacing": 5e-4, "ReconMatrixPE": 101}, 2, 1, 0.05,
         (True, True)),
        ({"PhaseEncodingAxis": "j", "EstimatedTotalReadoutTime": 0.03}, 1, 1, 0.03, (False, True)),
    ],
)  # fmt: skip
def test_what_a_sidecar_says(meta, axis, sign, time, known):
    found = phase_encoding_of(meta)
    assert (found.axis, found.sign) == (axis, sign)
    assert found.readout_time == pytest.approx(time)
    assert (found.known_sign, found.known_time) == known
    assert found.voxels_per_hz == pytest.approx(sign * time)
    assert found.reversed.voxels_per_hz == -found.voxels_per_hz


def test_options_go_before_the_sidecar():
    found = phase_encoding_of({"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.04}, "i-", 0.1)
    assert str(found) == "i-" and found.readout_time == 0.1
    assert phase_encoding_of({}) is None


@pytest.mark.parametrize("word", ["AP", "jj", "l", "-"])
def test_a_direction_that_cannot_be(word):
    with pytest.raises(FornixError, match="--phase-encoding"):
        phase_encoding_of({"PhaseEncodingDirection": word})


def test_a_time_that_cannot_be():
    with pytest.raises(FornixError, match="--readout-time"):
        phase_encoding_of({"PhaseEncodingDirection": "j", "TotalReadoutTime": 40})
