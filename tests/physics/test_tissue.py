"""The signal against direct integration, other packages, finite differences and symmetry."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.numerics import harmonics
from fornix.numerics.directions import spread
from fornix.physics import Tissue, random_tissue, scheme, signal, watson
from fornix.physics.kernels import legendre_table, lmax_for, zonal

F64 = torch.float64


def one(odi: float = 0.2, ndi: float = 1.0, d_par: float = 1.7, **more: float) -> Tissue:
    """A single population along z."""
    column = {k: torch.full((1,), v, dtype=F64) for k, v in more.items() if k != "d_perp"}
    perp = torch.tensor([more["d_perp"]], dtype=F64) if "d_perp" in more else None
    column.setdefault("fwf", torch.zeros(1, dtype=F64))
    return Tissue(
        mu=torch.tensor([[[0.0, 0.0, 1.0]]], dtype=F64),
        fraction=torch.ones(1, 1, dtype=F64),
        odi=torch.full((1, 1), odi, dtype=F64),
        ndi=torch.tensor([ndi], dtype=F64),
        d_par=torch.tensor([d_par], dtype=F64),
        d_perp=perp,
        **column,
    )


def integrated(b: float, gap: float, odi: float, cosine: np.ndarray) -> np.ndarray:
    """Integral over the sphere of watson(u·z) exp(-b gap (g·u)²), g at `cosine` from z."""
    t, weight = np.polynomial.legendre.leggauss(300)
    phi = 2 * np.pi * np.arange(128) / 128
    density = watson.density(odi, t) * weight * 2 * np.pi / 128
    across = np.sqrt(1 - t**2)[:, None] * np.cos(phi)
    made = []
    for c in cosine:
        projection = c * t[:, None] + np.sqrt(1 - c**2) * across
        made.append((density[:, None] * np.exp(-b * gap * projection**2)).sum())
    return np.array(made)


@pytest.mark.parametrize("x", [1e-3, 0.3, 1.7, 5.1, 9.0, 30.0, -2.0])
def test_kernel_projections_match_adaptive_quadrature(x: float) -> None:
    made = zonal(torch.tensor(x, dtype=F64), 12).numpy()
    for k, ell in enumerate(range(0, 13, 2)):
        expected = quad(
            lambda t, ell=ell: np.exp(-x * t**2) * eval_legendre(ell, t), 0, 1, epsabs=1e-14
        )[0]  # fmt: skip
        assert made[k] == pytest.approx(expected, abs=2e-13), ell


@pytest.mark.parametrize("kappa", [0.0, 0.05, 1.0, 8.0, 32.0, 64.0, 300.0])
def test_watson_moments_match_adaptive_quadrature(kappa: float) -> None:
    odi = watson.odi_from_kappa(torch.tensor(kappa, dtype=F64))
    assert watson.kappa_from_odi(odi).item() == pytest.approx(kappa, abs=1e-9)
    made = watson.moments(odi, 12).numpy()
    single = watson.moments(odi.float(), 12).numpy()

    def moment(k: int) -> float:
        return quad(
            lambda t: np.exp(kappa * (t**2 - 1)) * eval_legendre(2 * k, t),
            0, 1, epsabs=1e-13, epsrel=1e-11, limit=200, points=[max(0, 1 - 3 / max(kappa, 3))],
        )[0]  # fmt: skip

    expected = np.array([moment(k) for k in range(7)]) / moment(0)
    np.testing.assert_allclose(made, expected, atol=1e-9)
    np.testing.assert_allclose(single, expected, atol=2e-6)


def test_watson_moments_at_the_ends() -> None:
    ends = watson.moments(torch.tensor([0.0, 1.0], dtype=F64), 8)
    np.testing.assert_allclose(ends[0], np.ones(5), atol=1e-4)
    np.testing.assert_allclose(ends[1], [1, 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("odi", [0.04, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("b", [0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("d_par", "d_perp"), [(1.7, 0.0), (1.7, 0.6), (2.4, 0.3)])
def test_coefficients_match_direct_integration(
    odi: float, b: float, d_par: float, d_perp: float
) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    upper, w = nodes[20:], weights[20:]
    direct = np.exp(-b * d_perp) * integrated(b, d_par - d_perp, odi, upper)
    expected = (w * direct) @ legendre_table(8, upper)
    made = np.exp(-b * d_perp) * (
        zonal(torch.tensor(b * (d_par - d_perp), dtype=F64), 8)
        * watson.moments(torch.tensor(odi, dtype=F64), 8)
    )
    # Coefficients down to 1e-12 occur: below 1e-14 the reference itself only has rounding.
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize("b", [0.5, 1.0, 3.0])
def test_whole_signal_matches_direct_integration(b: float) -> None:
    tissue = one(
        0.12, ndi=0.6, d_perp=0.5, fwf=0.2, restricted=0.1, d_restricted=0.1, s0=7.0
    )  # fmt: skip
    g = spread(20)
    made = signal(tissue, (torch.full((20,), b), torch.tensor(g.copy())))[0].numpy()
    inside = integrated(b, 1.7, 0.12, g[:, 2])
    around = np.exp(-0.5 * b) * integrated(b, 1.2, 0.12, g[:, 2])
    neural = 0.7 * (0.6 * inside + 0.4 * around)
    expected = 7 * (neural + 0.2 * np.exp(-3 * b) + 0.1 * np.exp(-0.1 * b))
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_parallel_fibres_match_dipy() -> None:
    from dipy.core.gradients import gradient_table
    from dipy.sims.voxel import multi_tensor

    g = scheme("bench96")
    tissue = one(odi=1e-6, ndi=0.0, d_perp=0.3)
    axis = np.array([0.6, 0.0, 0.8])
    tissue = tissue.with_(mu=torch.tensor(axis)[None, None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = gradient_table(g.bvals, bvecs=g.directions)
    expected, _ = multi_tensor(
        table, np.array([[1.7e-3, 0.3e-3, 0.3e-3]]), S0=1,
        angles=[(np.degrees(np.arccos(0.8)), 0)], fractions=[100], snr=None,
    )  # fmt: skip
    np.testing.assert_allclose(signal(tissue, g)[0], expected, atol=1e-4)
    np.testing.assert_allclose(signal(tissue, g, lmax=30)[0], expected, atol=5e-6)


@pytest.mark.parametrize("kappa", [0.5, 4.0, 16.0])
def test_signal_matches_amico(kappa: float) -> None:
    synthesis = pytest.importorskip("amico.synthesis")
    from amico.scheme import Scheme

    g = scheme("bench96")
    table = np.column_stack([g.directions, g.bvals])
    amico_scheme = Scheme(table, b0_thr=0)
    dw = ~g.b0_mask
    odi = float(watson.odi_from_kappa(torch.tensor(kappa, dtype=F64)))
    intra = synthesis.NODDIIntraCellular(amico_scheme).get_signal(1.7e-3, kappa)
    extra = synthesis.NODDIExtraCellular(amico_scheme).get_signal(1.7e-3, kappa, 0.4)
    ours_intra = signal(one(odi, ndi=1.0), g)[0].numpy()
    # ndi = 0 leaves only the zeppelin; tortuosity is that of vol_ic = 0.4.
    ours_extra = signal(one(odi, ndi=0.0, d_perp=1.7 * 0.6), g, extra="mean")[0].numpy()
    # AMICO rounds: gradient strengths from b, and a fitted series for the Watson coefficients.
    np.testing.assert_allclose(ours_intra[dw], np.ravel(intra)[dw], atol=2e-3)
    np.testing.assert_allclose(ours_extra[dw], np.ravel(extra)[dw], atol=1e-4)


def test_default_order_is_enough(mixed: Tissue) -> None:
    g = scheme("hcp")
    high = signal(mixed, g, lmax=40)
    np.testing.assert_allclose(signal(mixed, g), high, atol=1e-5)
    undispersed = mixed.with_(odi=torch.full_like(mixed.odi, 1e-6))
    np.testing.assert_allclose(signal(undispersed, g), signal(undispersed, g, lmax=40), atol=2e-4)
    assert [lmax_for(b) for b in (0.0, 1.0, 2.0, 3.0)] == [8, 12, 16, 18]


def test_single_precision(mixed: Tissue) -> None:
    g = scheme("bench96")
    single = signal(mixed.to(dtype=torch.float32), g)
    np.testing.assert_allclose(single, signal(mixed, g), atol=3e-6)


def test_blocks_and_threads_do_not_change_the_bits() -> None:
    tissue, g = random_tissue(700, seed=2), scheme("ukb")
    whole = signal(tissue, g)
    assert torch.equal(signal(tissue, g, block=256), whole)
    with use_threads(2):
        assert torch.equal(signal(tissue, g), whole)


def test_order_of_volumes_does_not_matter(mixed: Tissue) -> None:
    g = scheme("ukb")
    order = np.random.default_rng(0).permutation(len(g))
    np.testing.assert_allclose(
        signal(mixed, g.subset(order)), signal(mixed, g)[:, order], atol=1e-12
    )


def test_turning_tissue_and_gradients_together_changes_nothing(mixed: Tissue) -> None:
    turn = Rotation.random(random_state=3).as_matrix()
    g = scheme("bench96")
    turned = signal(mixed.rotated(torch.tensor(turn)), g.rotated(turn))
    np.testing.assert_allclose(turned, signal(mixed, g), atol=1e-12)


def test_gradients_match_finite_differences() -> None:
    tissue = random_tissue(3, seed=8, dtype=F64)
    b, g = torch.tensor([0.0, 1.0, 1.0, 2.5]), torch.tensor(spread(4).copy())
    names = ("mu", "fraction", "odi", "ndi", "fwf", "d_par", "d_perp")
    inputs = tuple(getattr(tissue, n).clone().requires_grad_() for n in names)

    def made(*values: torch.Tensor) -> torch.Tensor:
        return signal(Tissue(**dict(zip(names, values))), (b, g), lmax=8)

    assert torch.autograd.gradcheck(made, inputs, atol=1e-7)


def test_gradients_are_finite_at_the_corners() -> None:
    odi = torch.tensor([[0.0], [1.0]], requires_grad=True)
    tissue = Tissue(
        torch.tensor([[[0.0, 0, 1]], [[0.0, 0, 1]]]), torch.ones(2, 1), odi,
        torch.tensor([0.0, 1.0]), torch.zeros(2), torch.full((2,), 1.7),
    )  # fmt: skip
    signal(tissue, scheme("dti12")).sum().backward()
    assert odi.grad is not None and torch.isfinite(odi.grad).all()


def test_harmonics_and_legendre_agree() -> None:
    """The zonal series equals the same function written in Fornix's harmonics."""
    tissue = one(0.2, ndi=1.0).with_(mu=torch.tensor([[[0.48, 0.6, 0.64]]], dtype=F64))
    g = spread(30)
    coefficients = zonal(torch.tensor(1.7 * 2.0, dtype=F64), 8) * watson.moments(
        torch.tensor(0.2, dtype=F64), 8
    )
    ells, _ = harmonics.orders(8)
    at_mu = harmonics.evaluate(8, np.array([0.48, 0.6, 0.64]))
    series = harmonics.evaluate(8, g) @ (4 * np.pi * coefficients.numpy()[ells // 2] * at_mu)
    made = signal(tissue, (torch.full((30,), 2.0), torch.tensor(g.copy())), lmax=8)[0]
    np.testing.assert_allclose(made, series, atol=1e-12)


def test_errors_say_what_to_do() -> None:
    tissue = one()
    with pytest.raises(FornixError, match="unit vectors"):
        tissue.with_(mu=2 * tissue.mu).check()
    with pytest.raises(FornixError, match="sum to 1"):
        tissue.with_(fraction=0.5 * tissue.fraction).check()
    with pytest.raises(FornixError, match=r"\[0, 1\]"):
        tissue.with_(fwf=tissue.fwf + 1.5).check()
    with pytest.raises(FornixError, match="must be"):
        tissue.with_(odi=torch.zeros(2, 1))
    with pytest.raises(FornixError, match="dispersed"):
        signal(tissue, scheme("dti6"), extra="both")  # type: ignore[arg-type]
    with pytest.raises(FornixError, match="beyond"):
        signal(tissue, Gradients([0, 90000.0], [[0, 0, 0], [0, 0, 1]]))
