"""What the compiled tracker is given, in named groups: numba compiles named tuples as they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]


class FieldArrays(NamedTuple):
    """What streamlines run through: the FOD on fixed axes of the half sphere, and the tissue.

    Attributes:
        lookup: (X, Y, Z) int32, the row of each voxel that may hold fibres, -1 elsewhere.
        amplitudes: (rows, A) of the FOD on the axes.
        std: (rows, A) standard deviation of the amplitudes; (0, 0) where none is sampled.
        noise_basis: (A, coefficients) harmonics on the axes, scaled so that standard normal
            coefficients give functions of variance 1.
        axes: (A, 3) unit vectors in voxel axes.
        cones: (A, width) int32, the axes near each axis, filled up with -1.
        nearest: (side, side) int32, the axis nearest to each cell of the octahedron's upper half.
        tissue: (X, Y, Z, 3) fractions of white matter, grey matter and fluid (wm, gm, csf).
        voxel_size: (3,) mm.
    """

    lookup: NDArray[np.int32]
    amplitudes: Floats32
    std: Floats32
    noise_basis: Floats32
    axes: Floats64
    cones: NDArray[np.int32]
    nearest: NDArray[np.int32]
    tissue: Floats32
    voxel_size: Floats64


class StepParams(NamedTuple):
    """How streamlines step and which are long enough.

    Attributes:
        algorithm: DETERMINISTIC, PROBABILISTIC, TRANSPORT or POLICY of `_propagate`.
        step: mm.
        cosine: Of the largest turn per step.
        max_curvature: Largest curvature of an arc, 1/mm.
        probe: Length of the arcs that look ahead, mm.
        threshold: Least amplitude of the FOD at which a direction is taken.
        min_steps: Fewest steps of an accepted streamline.
        max_steps: Most points of a streamline.
        act_ends: Whether only streamlines whose ends lie in grey matter are accepted.
    """

    algorithm: int
    step: float
    cosine: float
    max_curvature: float
    probe: float
    threshold: float
    min_steps: int
    max_steps: int
    act_ends: bool


class Regions(NamedTuple):
    """Where streamlines must and must not go.

    Attributes:
        bits: (X, Y, Z) uint64; bit EXCLUDE_BIT, STOP_BIT, then one for each region to pass through.
        required: The bits that a streamline must have met.
    """

    bits: NDArray[np.uint64]
    required: np.uint64


class MlpWeights(NamedTuple):
    """A perceptron of three layers: weights (inputs, outputs) and biases (outputs,), float32."""

    first: Floats32
    first_bias: Floats32
    second: Floats32
    second_bias: Floats32
    third: Floats32
    third_bias: Floats32


class PolicyParams(NamedTuple):
    """How the learned tracker uses its network's logits.

    Attributes:
        scale: 1 / the FOD's typical largest amplitude.
        sharpness: Power to which the distribution over turns is raised before one is drawn; 0 takes
            the likeliest.
        end_logit: Taken off the logit of an end.
        min_true_logit: A streamline is given up where the logit of being true falls below this.
        min_true_logit_at_end: The same where it ends.
    """

    scale: float
    sharpness: float
    end_logit: float
    min_true_logit: float
    min_true_logit_at_end: float


class Scratch(NamedTuple):
    """Arrays that one streamline's kernels write into, so that no step allocates.

    Attributes:
        rows, weights: (8,) rows of the voxels around a point, and their trilinear weights.
        tissue: (3,) wm, gm and csf at a point.
        noise: (A,) this streamline's random function on the axes; (0,) where none is sampled.
        cone: (width,) amplitudes in a cone.
        frame, point: (3, 3) and (3,) of an arc that looks ahead.
    """

    rows: NDArray[np.int64]
    weights: Floats64
    tissue: Floats64
    noise: Floats64
    cone: Floats64
    frame: Floats64
    point: Floats64


class PolicyScratch(NamedTuple):
    """Arrays that the learned tracker writes into, beside those of Scratch.

    Attributes:
        axis: (directions,) the axis nearest to each direction along which the FOD is read.
        path: (distances, 3) points behind.
        features: (FEATURES,) what the network is shown.
        first, second: (width,) its hidden layers.
        logits: (OUTPUTS,) what it gives.
        turn_weights: (turns,) of the distribution from which the turn is drawn.
    """

    axis: NDArray[np.int64]
    path: Floats64
    features: Floats32
    first: Floats32
    second: Floats32
    logits: Floats32
    turn_weights: Floats64
