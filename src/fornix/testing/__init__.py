"""The mathematical properties every Fornix estimator must have, as tools for tests.

>>> from fornix.testing import assert_invariant, assert_rotates, assert_gradient_order_free
"""

from fornix.testing.properties import (
    assert_gradient_order_free,
    assert_invariant,
    assert_rotates,
    matrix_to_six,
    six_to_matrix,
    turned,
)

__all__ = [
    "assert_gradient_order_free",
    "assert_invariant",
    "assert_rotates",
    "matrix_to_six",
    "six_to_matrix",
    "turned",
]
