"""What was done before is said, whatever the sidecar holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fornix.preprocess.history import done_twice

ALL = ("gibbs", "eddy", "bias")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "MOCO", "eddy", "a\nb"]),
    lambda x: st.lists(x, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["Denoise", "Corrections", "ImageType"]), JSON))
def test_any_sidecar_is_read(meta):
    for line in done_twice(meta, "mppca", ALL):
        assert "\n" not in line
        assert "give the" in line


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"Denoise": "mppca"}, "denoised before (mppca)"),
        ({"Corrections": ["eddy", "bias"]}, "corrected before (eddy, bias)"),
        ({"ImageType": ["ORIGINAL", "MOCO"]}, "MOCO"),
    ],
)
def test_what_would_be_done_again(meta, said):
    (line,) = done_twice(meta, "mppca", ALL)
    assert said in line
    assert done_twice(meta, "", ()) == []


def test_a_raw_scan_is_not_doubted():
    raw = {"Denoise": "", "Corrections": [], "ImageType": ["ORIGINAL", "PRIMARY"]}
    assert done_twice(raw, "mppca", ALL) == []
