"""What is carried over keeps its meaning: directions turn, amounts stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.core.tractogram import Tractogram
from fornix.numerics.harmonics import evaluate, n_coefficients, rotation_matrix
from fornix.register.apply import (
    warp_fod,
    warp_image,
    warp_peaks,
    warp_streamlines,
    warp_tensor,
)
from fornix.register.grids import Lattice, moved

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -11
SMALL = Lattice(AFFINE, (12, 12, 12))


def rotation(seed: int) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return turn * np.linalg.det(turn)


def linear_map(matrix: np.ndarray):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    return lambda points: moved(affine, points)


@pytest.mark.parametrize("seed", range(3))
def test_rotations_turn_fods_tensors_and_peaks_alike(seed: int) -> None:
    turn = rotation(seed)  # from the target to the source
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal(n_coefficients(6))
    coefficients[0] = 3
    fod = np.broadcast_to(coefficients, (*SMALL.shape, 28)).astype(np.float32)
    found = warp_fod(fod, SMALL, SMALL, linear_map(turn))[6, 6, 6]
    assert np.allclose(found, rotation_matrix(6, turn.T) @ coefficients, atol=0.02)
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    peaks = np.broadcast_to(2 * axis, (*SMALL.shape, 3)).astype(np.float32)
    peak = warp_peaks(peaks, SMALL, SMALL, linear_map(turn))[6, 6, 6]
    assert np.allclose(peak, 2 * turn.T @ axis, atol=1e-3)
    matrix = np.outer(axis, axis)
    six = np.array([matrix[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])
    tensor = np.broadcast_to(six, (*SMALL.shape, 6)).astype(np.float32)
    turned = warp_tensor(tensor, SMALL, SMALL, linear_map(turn))[6, 6, 6]
    expected = turn.T @ matrix @ turn
    assert np.allclose(turned[:3], np.diag(expected), atol=1e-3)


def test_stretching_keeps_the_amount_of_fibres_and_draws_directions_along() -> None:
    stretch = np.diag([1 / 1.6, 1.0, 1.0])  # the target is longer along x
    axis = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    dirac = evaluate(8, axis) * 4 * np.pi / 45
    fod = np.broadcast_to(dirac, (*SMALL.shape, 45)).astype(np.float32)
    found = warp_fod(fod, SMALL, SMALL, linear_map(stretch))[6, 6, 6]
    assert found[0] == pytest.approx(dirac[0], rel=0.1)
    sphere = np.random.default_rng(0).standard_normal((20000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    top = sphere[(evaluate(8, sphere) @ found).argmax()]
    expected = np.linalg.inv(stretch) @ axis
    expected /= np.linalg.norm(expected)
    assert np.degrees(np.arccos(abs(top @ expected))) < 5


def test_modulated_images_keep_their_sums() -> None:
    image = np.zeros(SMALL.shape, np.float32)
    image[4:8, 4:8, 4:8] = 1
    grown = linear_map(np.eye(3) / 1.3)
    plain = warp_image(image, SMALL, SMALL, grown)
    kept = warp_image(image, SMALL, SMALL, grown, modulate=True)
    assert plain.sum() == pytest.approx(1.3**3 * image.sum(), rel=0.1)
    assert kept.sum() == pytest.approx(image.sum(), rel=0.1)


def test_labels_stay_labels_and_beyond_the_source_is_nothing() -> None:
    image = np.random.default_rng(0).integers(1, 9, SMALL.shape).astype(np.float32)
    away = lambda points: points + 7.3  # noqa: E731
    found = warp_image(image, SMALL, SMALL, away, nearest=True)
    assert set(np.unique(found)) <= set(range(9))
    assert not found[-2:].any()
    assert not warp_image(image, SMALL, SMALL, lambda p: p + 500).any()


def test_streamlines_go_the_way_of_points() -> None:
    lines = [
        np.random.default_rng(i).standard_normal((5 + i, 3)).astype(np.float32) for i in range(4)
    ]
    tractogram = Tractogram.from_list(lines, SMALL.affine, SMALL.shape)
    found = warp_streamlines(
        tractogram, SMALL, lambda p: p * 2 + torch.tensor([1.0, 0, 0]), block=7
    )
    assert len(found) == 4
    assert np.allclose(found[2], lines[2] * 2 + [1, 0, 0], atol=1e-5)


def test_a_map_that_folds_leaves_numbers() -> None:
    peaks = np.ones((*SMALL.shape, 3), np.float32)
    flat = linear_map(np.diag([1.0, 1.0, 0.0]))
    assert np.isfinite(warp_peaks(peaks, SMALL, SMALL, flat)).all()
