"""Heads: the embedded one looks like a brain, the real one has its axes right, variations hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.physics import anatomy
from fornix.physics.anatomy import LESION, OEDEMA, Anatomy


def tangents(
    lines: list[np.ndarray], affine: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Voxel indices and unit tangents of every point."""
    points = np.concatenate(lines)
    steps = np.concatenate([np.gradient(line, axis=0) for line in lines])
    steps = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    inverse = np.linalg.inv(affine)
    voxels = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    return tuple(voxels.T), steps


def coherence(head: Anatomy, name: str, flip: tuple[int, int, int] = (1, 1, 1)) -> float:
    """Mean |cos| between a bundle's tangents and the nearest population of the voxel."""
    where, steps = tangents(head.bundles[name].streamlines[::10], head.affine)
    inside = np.all([(w >= 0) & (w < n) for w, n in zip(where, head.grid)], axis=0)
    where = tuple(w[inside] for w in where)
    kept = head.mask[where]
    cosine = np.einsum("npi,ni->np", head.mu[where][kept] * np.array(flip), steps[inside][kept])
    return float((np.abs(cosine) * (head.fraction[where][kept] > 0)).max(1).mean())


def principal(head: Anatomy, at_mm: tuple[float, float, float]) -> np.ndarray:
    voxel = np.rint(np.linalg.inv(head.affine) @ np.r_[at_mm, 1])[:3].astype(int)
    return np.abs(head.mu[tuple(voxel)][head.fraction[tuple(voxel)].argmax()])


def test_embedded_is_a_valid_head(head: Anatomy) -> None:
    head.tissue().check()
    total = (head.wm + head.gm + head.csf)[head.mask]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    size = head.mask.sum() * 4.0**3 / 1e6
    assert 1.4 < size < 2.2  # litres
    assert not head.lesions.any() and not head.s0[~head.mask].any()
    again = anatomy.embedded(voxel_size=4.0, seed=1)
    np.testing.assert_array_equal(head.ndi, again.ndi)


def test_embedded_bundles_run_where_they_should(head: Anatomy) -> None:
    assert principal(head, (0, -5, 26))[0] > 0.95  # callosal body: left-right
    assert principal(head, (24, -15, 8))[2] > 0.75  # internal capsule: up-down
    assert principal(head, (9, -8, 36))[1] > 0.75  # cingulum: front-back
    assert principal(head, (0, -17, -30))[0] > 0.7  # pontine crossing of the middle peduncle
    white = head.wm > 0.7
    count = (head.fraction[white] > 0).sum(1)
    assert (count == 3).mean() > 0.15 and (count == 1).mean() > 0.05
    # Centrum semiovale: callosum, corona radiata and SLF cross.
    voxel = np.rint(np.linalg.inv(head.affine) @ np.array([30, -14, 33, 1]))[:3].astype(int)
    around = tuple(slice(v - 1, v + 2) for v in voxel)
    assert ((head.fraction[around] > 0.1).sum(-1) == 3).any()


def test_embedded_bundles_have_their_truth(head: Anatomy) -> None:
    assert {"CC_body", "CST_left", "CG_right", "OR_left", "FX_left", "MCP"} <= set(head.bundles)
    for name in ("CC_body", "CST_left", "AF_right"):
        bundle = head.bundles[name]
        length = np.linalg.norm(bundle.orientation, axis=-1)
        np.testing.assert_allclose(length[bundle.mask], 1, atol=1e-5)
        assert not length[~bundle.mask].any()
        assert all(e.any() for e in bundle.endings)
        assert coherence(head, name) > 0.9
    left, right = (
        np.argwhere(head.bundles[f"CST_{s}"].mask)[:, 0].mean() for s in ("left", "right")
    )
    assert left < right  # x grows to the right


def test_voxel_size_is_checked() -> None:
    with pytest.raises(FornixError, match="mm"):
        anatomy.embedded(voxel_size=0.5)


@pytest.mark.real
def test_subject_axes_are_right(subject_folder: Path) -> None:
    subject = anatomy.from_subject(subject_folder)
    subject.tissue().check()
    assert len(subject.bundles) == 72
    flips = [(-1, 1, 1), (1, -1, 1), (1, 1, -1)]
    for name in ("CST_left", "CC_4", "SLF_II_left", "CG_left"):
        right = coherence(subject, name)
        assert right > 0.78, name
        assert right > max(coherence(subject, name, flip) for flip in flips) + 0.03, name
        swapped = subject.with_(mu=subject.mu[..., [1, 0, 2]])
        assert right > coherence(swapped, name) + 0.03, name
        bundle = subject.bundles[name]
        where, steps = tangents(bundle.streamlines[::10], subject.affine)
        inside = bundle.mask[where]
        cosine = np.abs((bundle.orientation[where] * steps).sum(1))[inside]
        assert inside.mean() > 0.85 and cosine.mean() > 0.9
        assert all(e.any() for e in bundle.endings)


def test_a_missing_subject_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FornixError, match="bedpostx"):
        anatomy.from_subject(tmp_path)


def test_deformation_carries_fibres_with_streamlines(head: Anatomy) -> None:
    bent = anatomy.deform(head, seed=2, amplitude=6.0)
    bent.tissue().check()
    moved = np.concatenate(bent.bundles["CST_left"].streamlines)
    still = np.concatenate(head.bundles["CST_left"].streamlines)
    assert 1.0 < np.linalg.norm(moved - still, axis=1).mean() < 15
    for name in ("CST_left", "CC_body", "IFO_right"):
        bundle = bent.bundles[name]
        where, steps = tangents(bundle.streamlines, bent.affine)
        inside = bundle.mask[where]
        assert inside.mean() > 0.75
        assert np.abs((bundle.orientation[where] * steps).sum(1))[inside].mean() > 0.95
        # Without turning the fibres they would fit the bent streamlines less well.
        assert coherence(bent, name) > coherence(head, name) - 0.03
    unturned = anatomy.deform(head, seed=2, amplitude=6.0).mask
    np.testing.assert_array_equal(unturned, bent.mask)


def test_a_pure_stretch_turns_directions_towards_it() -> None:
    """Finite check of the Jacobian rule on the deformation's own field."""
    head = anatomy.embedded(voxel_size=6.0, seed=0)
    bent = anatomy.deform(head, seed=4, amplitude=8.0, smoothness=40.0)
    lines = head.bundles["SLF_II_left"].streamlines
    pushed = bent.bundles["SLF_II_left"].streamlines
    before = np.concatenate([np.gradient(line, axis=0) for line in lines])
    after = np.concatenate([np.gradient(line, axis=0) for line in pushed])
    turned = np.degrees(
        np.arccos(
            np.clip(
                (before * after).sum(1)
                / np.linalg.norm(before, axis=1)
                / np.linalg.norm(after, axis=1),
                -1, 1,
            )
        )
    )  # fmt: skip
    assert turned.mean() > 2
    where, steps = tangents(pushed, bent.affine)
    bundle = bent.bundles["SLF_II_left"]
    inside = bundle.mask[where]
    error = np.degrees(
        np.arccos(np.clip(np.abs((bundle.orientation[where] * steps).sum(1))[inside], 0, 1))
    )
    assert np.median(error) < 10


def test_lesions_change_what_they_should(head: Anatomy) -> None:
    ill = anatomy.with_lesions(head, 4, seed=1)
    ill.tissue().check()
    core, water = ill.lesions == LESION, ill.lesions == OEDEMA
    assert core.any() and water.any()
    assert (ill.ndi[core] < head.ndi[core]).all()
    assert (ill.d_perp[core] >= head.d_perp[core]).all()
    assert (ill.fwf[water] > head.fwf[water] + 0.04).all()
    rest = ill.lesions == 0
    np.testing.assert_array_equal(ill.ndi[rest], head.ndi[rest])
    assert (np.abs(ill.fwf - head.fwf)[rest] <= 0.1).all()  # below the label's threshold, twice
    assert not anatomy.with_lesions(head, 0).lesions.any()


def test_ageing_adds_water_and_removes_neurites(head: Anatomy) -> None:
    old = anatomy.aged(head, 0.8)
    old.tissue().check()
    assert old.csf.sum() > 1.02 * head.csf.sum()
    assert old.ndi[head.mask].mean() < head.ndi[head.mask].mean()
    np.testing.assert_allclose((old.wm + old.gm + old.csf)[head.mask], 1, atol=1e-4)


def test_variations_are_valid_and_repeatable(head: Anatomy) -> None:
    one, two = anatomy.vary(head, 7, lesions=2), anatomy.vary(head, 7, lesions=2)
    np.testing.assert_array_equal(one.ndi, two.ndi)
    one.tissue().check()
    other = anatomy.vary(head, 8)
    other.tissue().check()
    assert np.abs(other.ndi - one.ndi).max() > 0.05
