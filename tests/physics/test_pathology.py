"""Cavities and masses: what they take is gone, what they push has moved, the rest is as it was."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.physics.anatomy import (
    CAVITY,
    MASS,
    Anatomy,
    Site,
    random_site,
    with_cavity,
    with_mass,
)
from fornix.physics.anatomy.pathology import pushed_from

SITE = Site((26.0, -20.0, 24.0), 14.0)


def distance(head: Anatomy, site: Site = SITE) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in head.grid], indexing="ij"), -1)
    at = index @ head.affine[:3, :3].T + head.affine[:3, 3]
    return np.linalg.norm(at - np.array(site.centre), axis=-1)


def points(head: Anatomy, name: str) -> np.ndarray:
    return np.concatenate(head.bundles[name].streamlines)


def test_a_cavity_is_fluid_and_holds_no_bundle(head: Anatomy) -> None:
    made = with_cavity(head, SITE, seed=1)
    gone = made.lesions == CAVITY
    inner = (distance(head) < 0.7 * SITE.radius) & head.mask
    assert gone[inner].all() and not gone[distance(head) > 1.4 * SITE.radius].any()
    assert (
        (made.csf[gone] == 1).all() and (made.wm[gone] == 0).all() and (made.fwf[gone] == 1).all()
    )
    made.tissue().check()
    touched = 0
    for name, bundle in made.bundles.items():
        before = head.bundles[name]
        assert not (bundle.mask & gone).any()
        np.testing.assert_array_equal(bundle.mask | (before.mask & gone), before.mask)
        assert not np.any(bundle.orientation[gone])
        assert len(bundle.streamlines) <= len(before.streamlines)
        touched += len(bundle.streamlines) < len(before.streamlines)
        assert not any(end[gone].any() for end in bundle.endings)
        if bundle.streamlines:
            at = (points(made, name) - head.affine[:3, 3]) @ np.linalg.inv(head.affine[:3, :3]).T
            voxel = np.rint(at).astype(int).clip(0, np.array(head.grid) - 1)
            assert not gone[tuple(voxel.T)].any()
    assert touched
    for name in ("wm", "ndi", "fwf", "s0", "odi"):
        np.testing.assert_array_equal(getattr(made, name)[~gone], getattr(head, name)[~gone])


@pytest.mark.parametrize("infiltrating", [False, True])
def test_a_mass_pushes_what_is_around_it_and_nothing_far_away(
    head: Anatomy, infiltrating: bool
) -> None:
    made = with_mass(head, SITE, push=0.7, infiltrating=infiltrating, seed=2)
    made.tissue().check()
    inside = made.lesions == MASS
    assert inside.any() and (made.csf[inside] == 0).all()
    centre = np.array(SITE.centre)
    outward, kept = [], 0
    for name, bundle in made.bundles.items():
        lost = len(head.bundles[name].streamlines) - len(bundle.streamlines)
        kept += lost == 0
        if infiltrating:
            assert lost == 0
        if lost or not bundle.streamlines:
            continue
        before, after = points(head, name), points(made, name)
        away = np.linalg.norm(before - centre, axis=1)
        moved = np.linalg.norm(after - centre, axis=1) - away
        near = (away > 0.8 * SITE.radius) & (away < 1.4 * SITE.radius)
        outward += list(moved[near])
        assert np.abs(moved[away > 6 * SITE.radius]).max(initial=0) < 0.1
        assert moved.min() > -0.5
    assert kept and np.median(outward) > 2.0
    if not infiltrating:
        assert all(not (b.mask & inside).any() for b in made.bundles.values())


@pytest.mark.parametrize("push", [0.3, 0.9])
@pytest.mark.parametrize("radius", [8.0, 18.0])
def test_no_push_folds_space(push: float, radius: float) -> None:
    # Radii of tissue map to radii after the push: they keep their order.
    after = np.linspace(0.1, 8 * radius, 2000)
    before = after - pushed_from(after, radius, push)
    assert (np.diff(before) > 0).all() and (before > 0).all()


def test_sites_lie_in_white_matter_and_bad_pushes_are_refused(head: Anatomy) -> None:
    for seed in range(5):
        site = random_site(head, seed)
        voxel = np.linalg.inv(head.affine) @ np.r_[site.centre, 1]
        assert head.wm[tuple(np.rint(voxel[:3]).astype(int))] > 0.85
        assert 8 <= site.radius <= 18
    with pytest.raises(FornixError, match=r"from 0 to 0\.9, not 1\.5"):
        with_mass(head, SITE, push=1.5)
