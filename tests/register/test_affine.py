"""Affine matching: its gradient is that of what it minimises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from fornix.register.affine import nearest_rotation

sizes = st.tuples(*[st.floats(0.7, 1.4)] * 3)


@given(seed=st.integers(0, 10_000), size=sizes, shear=st.floats(-0.3, 0.3))
def test_the_nearest_rotation_is_the_polar_one(seed, size, shear):
    turn = Rotation.random(random_state=seed).as_matrix()
    sheared = np.diag(size)
    sheared[0, 1] = shear
    matrix = turn @ sheared
    found = nearest_rotation(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, polar(matrix)[0], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_it_has_a_gradient_where_all_sizes_are_equal(seed):
    turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix()).requires_grad_()
    assert torch.autograd.gradcheck(nearest_rotation, (turn,))
