"""Each artefact's truth explains, or undoes, what the scanner did."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.physics import Artefacts, scheme
from fornix.physics.scanner import PRESETS, apply, plan, preset, warp
from fornix.physics.scanner.kspace import in_kspace
from fornix.physics.scanner.motion import scanner_to_head

GRID = (32, 36, 20)
AFFINE = np.array([[-3.0, 0, 0, 48], [0, 3, 0, -54], [0, 0, 3, -30], [0, 0, 0, 1]])


def ball() -> tuple[torch.Tensor, np.ndarray]:
    """A smooth blob with structure, and its mask."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID], indexing="ij")
    radius = np.sqrt(x**2 + (0.95 * y) ** 2 + z**2)
    image = 100 / (1 + np.exp((radius - 0.7) * 18)) * (1 + 0.3 * np.sin(5 * x) * np.cos(4 * y + z))
    return torch.tensor(image, dtype=torch.float32), radius < 0.75


@pytest.fixture(scope="module")
def gradients() -> Gradients:
    return scheme("dti6")


def scanned(gradients: Gradients, **strengths: object):  # type: ignore[no-untyped-def]
    image, mask = ball()
    stack = image[..., None].repeat(1, 1, 1, len(gradients))
    planned = plan(Artefacts(**strengths), gradients, mask, AFFINE, seed=3)  # type: ignore[arg-type]
    made, kept = apply(stack, planned)
    return image, mask, made, kept


def test_a_perfect_scanner_changes_nothing(gradients: Gradients) -> None:
    image, _, made, kept = scanned(gradients)
    assert torch.equal(made, image[..., None].expand_as(made))
    assert not kept.moves and not kept.dropped and (kept.bias == 1).all()


@pytest.mark.parametrize("axis", ["i", "j", "j-", "k"])
def test_distortion_conserves_signal_and_its_truth_undoes_it(
    gradients: Gradients, axis: str
) -> None:
    image, mask, made, kept = scanned(gradients, field=25, phase_encoding=axis)
    number = kept.artefacts.phase_axis
    assert np.abs(kept.displacement(0)[mask]).max() == pytest.approx(1.25, rel=0.02)
    np.testing.assert_allclose(
        made[..., 0].sum(number).numpy(), image.sum(number).numpy(), atol=12, rtol=0.05
    )
    assert made[..., 0].sum().item() == pytest.approx(image.sum().item(), rel=5e-3)
    # Undo: read the distorted image where the signal went, times the local stretch.
    shift = kept.displacement(0)
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in GRID], indexing="ij"))
    index[number] += shift
    stretch = 1 + np.gradient(shift, axis=number)
    undone = map_coordinates(made[..., 0].numpy(), index, order=3) * stretch
    before = np.abs(made[..., 0].numpy() - image.numpy())[mask].mean()
    assert np.abs(undone - image.numpy())[mask].mean() < 0.3 * before


def test_opposite_phase_encoding_moves_the_other_way(gradients: Gradients) -> None:
    one = scanned(gradients, field=40, phase_encoding="j")[3]
    two = scanned(gradients, field=40, phase_encoding="j-")[3]
    np.testing.assert_array_equal(one.field_map, two.field_map)
    np.testing.assert_allclose(one.displacement(1), -two.displacement(1), atol=1e-5)


def test_eddy_fields_are_odd_in_the_gradient_and_vanish_at_b0() -> None:
    g = np.array([[0, 0, 0], [0.6, 0, 0.8], [-0.6, 0, -0.8], [0.6, 0, 0.8]])
    table = Gradients([0, 1000, 1000, 4000], g)
    image, mask = ball()
    kept = plan(Artefacts(eddy=20), table, mask, AFFINE)
    assert not kept.eddy_field(0).any()
    np.testing.assert_allclose(kept.eddy_field(1), -kept.eddy_field(2), atol=1e-5)
    np.testing.assert_allclose(2 * kept.eddy_field(1), kept.eddy_field(3), atol=1e-4)
    assert np.abs(kept.eddy[:, 4:]).max() > 0  # second order is there
    made, _ = apply(image[..., None].repeat(1, 1, 1, 4), kept)
    assert torch.allclose(made[..., 0], image, atol=1e-3)
    assert (made[..., 1] - image).abs().max() > 1


def test_fold_over_is_prevented() -> None:
    steep = torch.zeros(3, 20, 2)
    steep[:, 8:12] = torch.tensor([0.0, 6.0, -6.0, 0.0])[None, :, None]
    limited = warp.unfolded(steep, 1)
    gaps = 1 + torch.diff(limited, dim=1)
    assert gaps.min() >= warp.SMALLEST_GAP - 1e-5
    assert limited.mean().item() == pytest.approx(steep.mean().item(), abs=1e-5)
    source, rate = warp.inverse_along(limited, 1)
    assert (torch.diff(source, dim=1) > 0).all() and (rate > 0).all()


def test_motion_parameters_say_where_everything_went(gradients: Gradients) -> None:
    image, mask, made, kept = scanned(gradients, motion_mm=2.0, motion_degrees=3.0)
    assert not kept.motion[0].any() and torch.allclose(made[..., 0], image, atol=1e-3)
    spread = kept.motion[:, :3].std(0).mean(), kept.motion[:, 3:].std(0).mean()
    assert spread == pytest.approx((2.0, 3.0))
    volume = int(np.abs(kept.motion).sum(1).argmax())
    back = np.linalg.inv(scanner_to_head(kept.motion[volume], kept.centre, AFFINE))
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in GRID], indexing="ij"), -1)
    points = (index @ back[:3, :3].T + back[:3, 3]).transpose(3, 0, 1, 2)
    undone = map_coordinates(made[..., volume].numpy(), points, order=3)
    before = np.abs(made[..., volume].numpy() - image.numpy())[mask].mean()
    assert np.abs(undone - image.numpy())[mask].mean() < 0.15 * before
    # x' = R (x - c) + c + t, checked on a point in world space.
    rotation, at = kept.rotations[volume], np.array([10.0, -5.0, 4.0])
    moved = rotation @ (at - kept.centre) + kept.centre + kept.motion[volume, :3]
    voxel = np.linalg.inv(AFFINE) @ np.r_[moved, 1]
    found = AFFINE @ scanner_to_head(kept.motion[volume], kept.centre, AFFINE) @ voxel
    np.testing.assert_allclose(found[:3], at, atol=1e-9)


def test_a_turned_head_feels_turned_back_gradients(gradients: Gradients) -> None:
    kept = scanned(gradients, motion_degrees=4.0)[3]
    felt = kept.head_gradients(gradients)
    again = np.einsum("nij,nj->ni", kept.rotations, felt.directions)
    np.testing.assert_allclose(again, gradients.directions, atol=1e-12)
    assert np.abs(felt.directions - gradients.directions).max() > 0.02


def test_dropout_is_listed(gradients: Gradients) -> None:
    image, mask, made, kept = scanned(gradients, dropout=0.15)
    expected = image[..., None].repeat(1, 1, 1, len(gradients))
    assert kept.dropped
    for drop in kept.dropped:
        assert not gradients.b0_mask[drop.volume] and mask[:, :, drop.slice].any()
        expected[:, :, drop.slice, drop.volume] *= drop.factor
    assert torch.allclose(made, expected, rtol=1e-6)


def test_bias_divides_out(gradients: Gradients) -> None:
    image, mask, made, kept = scanned(gradients, bias=0.3)
    assert kept.bias[mask].mean() == pytest.approx(1, abs=1e-5)
    assert 0.05 < kept.bias[mask].std() < 0.4
    assert torch.allclose(made[..., 2] / torch.tensor(kept.bias), image, rtol=1e-5, atol=1e-4)


def test_ghost_is_half_a_field_of_view_away(gradients: Gradients) -> None:
    image, _, made, _ = scanned(gradients, ghost=0.1)
    shifted = torch.roll(image, GRID[1] // 2, 1)
    expected = ((image**2) * (1 - 0.01) + (shifted * 0.1) ** 2).sqrt()
    assert torch.allclose(made[..., 0], expected, atol=1e-3)


def test_gibbs_truncates_k_space_and_rings() -> None:
    edge = torch.full(GRID, 5.0)  # far from zero, so that the magnitude stays linear
    edge[8:24, 10:26] += 1.0
    made = in_kspace(edge, Artefacts(gibbs=0.7))
    assert made.max() > 6.04  # overshoot inside the edge
    for axis in (0, 1):
        size = GRID[axis]
        cut = torch.fft.fftfreq(size, 1 / size).abs() > 0.7 * size / 2
        spectrum = torch.fft.fft(made, dim=axis).abs().movedim(axis, 0)
        assert spectrum[cut].max() < 1e-3
        kept = torch.fft.fft(edge, dim=axis).abs().movedim(axis, 0)
        assert kept[cut].max() > 0.1
    assert torch.allclose(made[..., 3], made[..., 12])  # nothing across slices


def test_partial_fourier_blurs_the_phase_encoded_axis_only() -> None:
    edge = torch.zeros(GRID)
    edge[8:24, :] = 1.0
    assert torch.allclose(in_kspace(edge, Artefacts(partial_fourier=0.75)), edge, atol=1e-5)
    across = torch.zeros(GRID)
    across[:, 10:26] = 1.0
    made = in_kspace(across, Artefacts(partial_fourier=0.75))
    assert (made - across).abs().max() > 0.1


def test_severe_runs_and_keeps_everything(gradients: Gradients) -> None:
    image, mask = ball()
    stack = image[..., None].repeat(1, 1, 1, len(gradients))
    planned = plan(preset("severe"), gradients, mask, AFFINE, seed=1)
    one, _ = apply(stack, planned)
    two, _ = apply(stack, plan(preset("severe"), gradients, mask, AFFINE, seed=1))
    other, _ = apply(stack, plan(preset("severe"), gradients, mask, AFFINE, seed=2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.isfinite(one).all() and one.min() >= 0


def test_one_artefact_does_not_change_another(gradients: Gradients) -> None:
    _, mask = ball()
    alone = plan(Artefacts(field=50), gradients, mask, AFFINE, seed=9)
    both = plan(Artefacts(field=50, motion_mm=2, bias=0.2), gradients, mask, AFFINE, seed=9)
    np.testing.assert_array_equal(alone.field_map, both.field_map)


@pytest.mark.parametrize(
    "wrong",
    [
        {"phase_encoding": "y"},
        {"gibbs": 0.1},
        {"dropout": 2.0},
        {"field": -1.0},
        {"readout_time": 50},
    ],
)
def test_impossible_artefacts_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FornixError):
        Artefacts(**wrong)  # type: ignore[arg-type]
    with pytest.raises(FornixError, match="typical"):
        preset("terrible")
    assert list(PRESETS) == ["none", "mild", "typical", "severe"]
