"""Energies depend on neither protocol nor position; scaled orders scale; air tells the coils."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.enhance.harmonization.one_scan import noise_floor, with_one_channel
from fornix.enhance.harmonization.rish import energies, features_of, rescaled, told_by
from fornix.io import load, save_mask, save_scan
from fornix.physics.phantom import random_tissue, voxels
from fornix.physics.protocol import shells
from fornix.register.files import save_warp
from fornix.register.grids import Lattice
from fornix.register.warp import Warp

FEATURES = ((0, 1000), (2, 1000), (0, 2000), (2, 2000))


def scan(gradients: Gradients, snr: float = 40, seed: int = 1) -> DWI:
    made = voxels(1500, gradients, snr, tissue=random_tissue(1500, seed=3), seed=seed)
    return made.dwi.with_(mask=made.mask, sigma=made.sigma)


def logs(dwi: DWI, features=FEATURES) -> np.ndarray:
    return np.array([np.log(np.nanmean(v)) for v in energies(dwi, features).values()])


def test_energies_are_those_of_any_protocol_with_these_shells() -> None:
    rich = logs(scan(shells(6, (1000, 60), (2000, 60))))
    for other in (shells(3, (1000, 32), (2000, 32)), shells(4, (1000, 45), (2000, 30), (3000, 20))):
        assert np.abs(logs(scan(other, seed=2)) - rich).max() < 0.06
    # Between its shells the encoder tells them less surely.
    assert np.abs(logs(scan(shells(4, (700, 40), (1500, 40), (2500, 40)))) - rich).max() < 0.15


def test_energies_do_not_depend_on_noise_by_much() -> None:
    table = shells(4, (1000, 32), (2000, 32))
    assert np.abs(logs(scan(table, 20)) - logs(scan(table, 500))).max() < 0.25


def test_energies_turn_with_the_head() -> None:
    dwi = scan(shells(4, (1000, 32), (2000, 32)))
    turn = Rotation.from_euler("xyz", [40, -20, 75], degrees=True).as_matrix()
    turned = dwi.with_(
        gradients=dwi.gradients.rotated(np.broadcast_to(turn, (len(dwi.gradients), 3, 3)))
    )
    one, two = (energies(d, FEATURES) for d in (dwi, turned))
    for f in FEATURES:
        assert np.allclose(one[f], two[f], rtol=2e-3, atol=1e-4)


def test_a_scaled_order_is_scaled_and_the_others_stay() -> None:
    dwi = scan(shells(4, (1000, 32), (2000, 32)))
    before = logs(dwi)
    scales = {(2, b): np.full(dwi.grid, np.log(1.1), np.float32) for b in (1000, 2000)}
    after = logs(rescaled(dwi, scales))
    assert after - before == pytest.approx([0, 2 * np.log(1.1), 0, 2 * np.log(1.1)], abs=0.03)
    b0 = dwi.gradients.b0_mask
    assert np.array_equal(rescaled(dwi, scales).data[..., b0], dwi.data[..., b0])


def test_no_scale_changes_nothing() -> None:
    dwi = scan(shells(4, (1000, 32), (2000, 32)))
    scales = {f: np.zeros(dwi.grid, np.float32) for f in FEATURES}
    assert np.allclose(rescaled(dwi, scales).data, dwi.data, atol=1e-3)


def test_features_are_of_the_shells_of_all() -> None:
    one, two = shells(2, (1000, 20)), shells(2, (1020, 20), (2500, 20))
    found = features_of([one, two])
    assert {b for _, b in found} == {1000, 2500}
    assert {b for _, b in told_by(one, found, between=False)} == {1000}
    assert {b for _, b in told_by(two, found, between=False)} == {1000, 2500}
    wide = shells(2, (500, 20), (3000, 20))
    assert told_by(wide, found, between=False) == ()
    assert set(told_by(wide, found, between=True)) == set(found)


def heads_of(folder: Path, weaker: float) -> Path:
    """Six scans at two sites, in a template that is their own space; the second site's signal is weaker."""
    rows = []
    shape = (16, 16, 6)
    for i in range(6):
        table = shells(3, (1000, 24), (2000, 24)) if i < 3 else shells(3, (1000, 20), (2400, 20))
        made = voxels(
            int(np.prod(shape)),
            table,
            40,
            tissue=random_tissue(int(np.prod(shape)), seed=5),
            seed=i,
        )
        data = made.dwi.data.reshape(*shape, -1)
        if i >= 3:
            data = np.where(table.b0_mask, data, weaker * data)
        dwi = DWI(data, table, np.diag([4.0, 4, 4, 1]), stem="dwi")
        here = folder / f"h{i}"
        here.mkdir(parents=True)
        save_scan(dwi, here / "dwi_desc-preproc_dwi.nii.gz")
        save_mask(np.ones(shape, bool), dwi.affine, here / "dwi_desc-brain_mask.nii.gz")
        own = Lattice(dwi.affine, shape)
        save_warp(Warp(np.eye(4), own, own), here, "dwi", ("dwi", "mni"), {})
        rows.append({"participant_id": f"p{i}", "path": f"h{i}", "site": "AB"[i // 3]})
    pd.DataFrame(rows).to_csv(folder / "study.tsv", sep="\t", index=False)
    return folder / "study.tsv"


@pytest.mark.filterwarnings("ignore::fornix.core.errors.FornixWarning")
def test_sites_of_two_protocols_from_the_command_line(tmp_path: Path) -> None:
    table = heads_of(tmp_path, 0.9)
    runner = CliRunner()
    words = ["fit", str(table), "-o", str(tmp_path / "m"), "--method", "rish", "--reference", "A"]
    done = runner.invoke(app, ["harmonize", *words])
    assert done.exit_code == 0, done.exception
    done = runner.invoke(
        app,
        [
            "harmonize",
            "apply",
            str(tmp_path / "m.safetensors"),
            str(table),
            "-o",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 0, done.exception

    def level(path: Path) -> float:
        dwi = load(path)
        near = np.abs(dwi.gradients.bvals - 1000) < 50
        # Away from the border, where the template's places are cut.
        return float(dwi.data[3:-3, 3:-3, 1:-1][..., near].mean())

    before = [level(tmp_path / f"h{i}" / "dwi_desc-preproc_dwi.nii.gz") for i in range(6)]
    after = [level(tmp_path / "out" / f"sub-p{i}_desc-harmonized_dwi.nii.gz") for i in range(6)]
    assert np.mean(before[3:]) / np.mean(before[:3]) == pytest.approx(0.9, abs=0.02)
    assert np.mean(after[3:]) / np.mean(after[:3]) == pytest.approx(1, abs=0.025)
    assert after[:3] == pytest.approx(before[:3], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--method", "rish", "--map", "dti_fa"], "leave --on and --map out"),
     (["--method", "rish"], "works on folders that fornix run wrote|holds|warp"),
     (["--method", "magic"], "no way to harmonize")],
)  # fmt: skip
def test_what_rish_cannot_work_on_is_one_line(study, tmp_path: Path, options, said: str) -> None:
    done = CliRunner().invoke(
        app, ["harmonize", "fit", str(study()), "-o", str(tmp_path / "m"), *options]
    )
    assert done.exit_code == 1
    with pytest.raises(FornixError, match=said):
        raise done.exception


@pytest.mark.parametrize("coils", [1, 4, 8])
def test_air_tells_the_channels_and_their_floor_goes(coils: int) -> None:
    from fornix.physics import simulate

    made = simulate(protocol="dti12", snr=15, coils=coils, voxel_size=5.0, seed=2, threads=1)
    dwi = made.dwi.with_(mask=made.mask, sigma=made.sigma)
    floor = noise_floor(dwi)
    assert floor.channels == pytest.approx(coils, rel=0.06)
    left = with_one_channel(dwi, floor)
    if coils == 1:
        assert left is dwi
        return
    alone = simulate(protocol="dti12", snr=15, coils=1, voxel_size=5.0, seed=2, threads=1).dwi
    error = [np.abs(d.data[made.mask].mean() - alone.data[made.mask].mean()) for d in (left, dwi)]
    assert error[0] < 0.25 * error[1]


def test_a_scan_without_air_is_left_as_it_is(head: DWI) -> None:
    floor = noise_floor(head.with_(data=head.data * head.brain()[..., None]))
    assert floor.channels == 1 and "air" in floor.reason
    whole = noise_floor(head.with_(mask=np.ones(head.grid, bool)))
    assert whole.channels == 1 and "no air" in whole.reason
    with pytest.raises(FornixError, match="noise level"):
        noise_floor(head.with_(sigma=None))
