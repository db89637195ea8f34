"""Tracts of one head that was scanned twice, and of a table that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.register.apply import warp_image
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.tracts.segment import segment_tracts

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::fornix.core.errors.FornixWarning"),
]


def test_two_scans_of_one_head_stored_in_mirrored_order_have_the_same_tracts(shared_data: Path):
    seen = []
    for run in (1, 2):
        dwi = brain_mask(
            load(shared_data / "dwi" / f"siemens-prisma_b2000x20_run-{run}" / "dwi.nii.gz")
        )
        head = scan_features(dwi)
        seen.append((head, segment_tracts(dwi, head, register(head, mni_template().features()))))
    (first, one), (second, two) = seen
    rigid = register(second, first, kind="rigid")
    dice = {}
    for name, tract in one.found.items():
        assert tract.state == two.found[name].state == "whole", name
        carried = warp_image(two.image(name), second.lattice, first.lattice, rigid.to_moving)
        a, b = one.image(name) > tract.threshold, carried > tract.threshold
        dice[name] = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert np.mean(list(dice.values())) > 0.9
    assert min(dice.values()) > 0.7


def test_a_gradient_table_that_is_wrong_is_doubted(shared_data: Path):
    dwi = brain_mask(load(shared_data / "dwi" / "canon-galan_b1500x12_dir-AP" / "dwi.nii.gz"))
    head = scan_features(dwi)
    warp = register(head, mni_template().features(), kind="affine")
    found = segment_tracts(dwi, head, warp)
    assert any("is the gradient table right?" in note for note in found.notes), found.notes
