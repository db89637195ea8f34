"""Bad input, and what the protocol allows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.estimators.microstructure import microstructure
from fornix.models.flags import merged
from fornix.models.noddi import fit_noddi
from fornix.physics.protocol import scheme
from fornix.testing import model_truth as truth
from fornix.testing.model_truth import as_dwi

classical = partial(microstructure, method="classical")


def of(gradients: Gradients, **more):
    return as_dwi(1000 * truth.tensors(gradients, 8).signals, gradients, **more)


@pytest.mark.parametrize(
    ("name", "possible"),
    [
        ("dti6", {"dti"}), ("dti30", {"dti"}), ("ukb", {"dti", "dki", "noddi"}),
        ("abcd", {"dti", "dki", "noddi"}), ("hcp", {"dti", "dki", "noddi"}),
        ("dsi", {"dti", "dki", "noddi"}),
    ],
)  # fmt: skip
def test_what_a_protocol_gives(name, possible):
    told = scheme(name).facts.why_not()
    assert {m for m, reason in told.items() if not reason} == possible
    maps = classical(of(scheme(name)), models="auto", std=False)
    assert {m.model for m in maps.values()} == possible


def test_one_shell_refuses_kurtosis_and_noddi():
    dwi = of(scheme("dti30"))
    with pytest.raises(FornixError, match=r"dki cannot be estimated.*two or more non-zero shells"):
        classical(dwi, models=("dti", "dki"))
    with pytest.raises(FornixError, match="free-water fraction cannot be separated"):
        classical(dwi, models="noddi")


def test_too_few_directions():
    table = scheme("dti30")
    few = np.r_[np.flatnonzero(table.b0_mask), np.flatnonzero(~table.b0_mask)[:5]]
    with pytest.raises(FornixError, match="6 or more different directions, this scan has 5"):
        classical(of(scheme("dti30")).subset(few), models="dti")
    one = np.r_[np.flatnonzero(table.b0_mask), np.repeat(np.flatnonzero(~table.b0_mask)[:1], 9)]
    with pytest.raises(FornixError, match="this scan has 1"):
        classical(of(scheme("dti30")).subset(one), models="auto")
    with pytest.raises(FornixError, match="no diffusion-weighted volume"):
        classical(of(scheme("dti30")).subset(np.flatnonzero(table.b0_mask)), models="dti")


def test_six_directions_in_a_plane_are_refused():
    """Counting directions is not enough: these have rank 4."""
    angle = np.pi * np.arange(8) / 8
    flat = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(8)])
    gradients = Gradients(np.r_[0, np.full(8, 1000.0)], np.vstack([np.zeros(3), flat]))
    assert "not determined" in gradients.facts.why_not()["dti"]


def test_no_b0():
    """One shell without b0 gives no tensor; two b-values without b0 do."""
    table = scheme("ukb")
    single = table.subset(table.bvals == 1000)
    assert "needs a b0 or a second b-value" in single.facts.why_not()["dti"]
    both = table.subset(table.bvals > 50)
    assert "needs a b0 beside two shells" in both.facts.why_not()["noddi"]
    maps = classical(of(both), models="dti")
    np.testing.assert_allclose(
        1000 * maps["md"].data[:, 0, 0], truth.tensors(both, 8).values["md"], rtol=1e-4
    )


def test_unknown_words():
    dwi = of(scheme("dti30"))
    with pytest.raises(
        FornixError, match=r"no method 'lasso' for dti; there are dti: learned, voxelwise, wls"
    ):
        microstructure(dwi, models="dti", method="lasso")
    with pytest.raises(FornixError, match="unknown model 'dsi'; choose of: dti, dki, noddi"):
        classical(dwi, models="dsi")
    with pytest.raises(FornixError, match="sigma must be a positive number"):
        classical(dwi, sigma=-1.0)
    with pytest.raises(FornixError, match="noise map has shape"):
        classical(dwi, sigma=np.ones((2, 2, 2)))
    with pytest.raises(FornixError, match="no model was named"):
        classical(dwi, models=())


def test_a_method_applies_to_the_models_that_have_it():
    maps = microstructure(
        of(scheme("ukb")), models=("dti", "dki", "noddi"), method="wls", std=False
    )
    assert (maps["fa"].method, maps["mk"].method, maps["ndi"].method) == ("wls", "wls", "exact")


@pytest.mark.parametrize("model", ["dti", "dki", "noddi"])
def test_bad_voxels(model):
    dwi = of(scheme("ukb"))
    data = dwi.data.copy()
    used = np.flatnonzero(dwi.gradients.bvals == 1000)
    data[0, 0, 0, used[0]] = np.nan
    data[1, 0, 0, used[1]] = np.inf
    data[2] = 0
    data[3] = -5
    data[4, 0, 0, used[2]] = 0  # one lost volume: still fitted
    data[5, 0, 0, used[3]] = -20
    maps = classical(dwi.with_(data=data), models=(model,))
    good = classical(dwi, models=(model,))
    for name, item in maps.items():
        assert np.isfinite(item.data).all() and np.isfinite(item.std).all()
        assert (item.data[:4] == 0).all() and (item.std[:4] == 0).all()
        np.testing.assert_array_equal(item.data[6:], good[name].data[6:])
    if model == "dti":
        np.testing.assert_allclose(maps["md"].data[4:6], good["md"].data[4:6], rtol=2e-2)
    assert not maps.trust[:4].any()
    assert any("2 of 8 voxels hold NaN or inf" in n for n in maps.notes)
    assert any("2 of 8 voxels hold no positive signal" in n for n in maps.notes)


def test_few_positive_signals_are_not_trusted():
    dwi = of(scheme("dti6"))
    data = dwi.data.copy()
    data[0, 0, 0, 4] = 0
    maps = classical(dwi.with_(data=data))
    assert not maps.trust[0, 0, 0] and maps.trust[1:].any()
    assert np.isfinite(maps["fa"].data).all()


def test_no_residuals_no_errors():
    """Seven volumes and seven parameters: without a noise level there is no standard deviation."""
    dwi = of(scheme("dti6"))
    maps = classical(dwi)
    assert maps["fa"].std is None and any("give sigma" in n for n in maps.notes)
    assert classical(dwi, sigma=10.0)["fa"].std is not None


def test_one_voxel_and_mask():
    gradients = scheme("dti30")
    one = as_dwi(1000 * truth.tensors(gradients, 1).signals, gradients)
    assert classical(one)["fa"].data.shape == (1, 1, 1)
    many = of(gradients)
    mask = np.zeros(many.grid, dtype=bool)
    mask[2] = True
    maps = classical(many.with_(mask=mask))
    assert (maps["fa"].data[~mask] == 0).all() and maps["fa"].data[2, 0, 0] > 0
    assert maps.trust.sum() == 1


def test_volumes_of_the_tensor():
    maps = classical(of(scheme("hcp")), std=False)
    assert "fitted to the 108 of 288 volumes with b <= 1500" in maps.notes[0]
    assert not classical(of(scheme("hcp")), dti_bmax=None, std=False).notes
    table = scheme("ukb")
    high = table.subset((table.bvals < 50) | (table.bvals > 1500))
    assert "fitted to all volumes" in classical(of(high), std=False).notes[0]


def test_progress_and_memory_order():
    flat = of(scheme("ukb"))
    dwi = flat.with_(data=flat.data.reshape(2, 4, 1, -1))
    seen: list[tuple[int, int]] = []
    first = classical(
        dwi, models=("dti", "noddi"), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (16, 16) and sorted(seen) == seen
    by_volume = dwi.with_(data=np.asfortranarray(dwi.data))
    cropped = np.ones((3, 5, 2, len(dwi.gradients)), dtype=np.float32)
    cropped[:2, :4, :1] = dwi.data
    view = dwi.with_(data=cropped[:2, :4, :1])
    for other in (by_volume, view):
        second = classical(other, models=("dti", "noddi"))
        for name in first:
            np.testing.assert_array_equal(first[name].data, second[name].data)


def test_direct_fits_check_shapes():
    with pytest.raises(FornixError, match=r"shape \(voxels, 105\)"):
        fit_noddi(np.ones((2, 3)), scheme("ukb"))


def test_the_same_of_several_models_is_one_line():
    lines = ["dti: 1 of 9 voxels did not settle", "a scan: of no model", "dki: 1 of 9 voxels did not settle",
             "dki: 2 of 9 voxels hold NaN"]  # fmt: skip
    assert merged(lines, ["dti", "dki"]) == [
        "dti, dki: 1 of 9 voxels did not settle", "a scan: of no model", "dki: 2 of 9 voxels hold NaN"
    ]  # fmt: skip
