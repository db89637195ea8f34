"""From a file of weights to the network that they belong to."""

from __future__ import annotations

from torch import nn

from fornix.nets.fod_net import SPATIAL_VIEWS, FodNet
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.nets.neighbour_attention import PASSES, NeighbourAttention
from fornix.nets.weights import Weights, fill


def build_network(weights: Weights) -> nn.Module:
    """The network that these weights belong to, ready to be asked.

    Args:
        weights: read by `weights.load`; the recipe in `weights.about` names kind, width and depth.

    Returns:
        The network in evaluation mode, without gradients.

    Raises:
        FornixError: The weights do not fit this version of their network.
    """
    recipe = weights.about["recipe"]
    kind, width, depth = recipe["kind"], recipe["width"], recipe["depth"]
    model: nn.Module
    if kind == "context":
        model = NeighbourAttention(width, depth)
    elif kind in ("fod", "fod-spatial"):
        model = FodNet(width, depth, SPATIAL_VIEWS if kind == "fod-spatial" else 1)
    else:
        model = MicrostructureNet(width, depth, 1 + PASSES if kind == "spatial" else 1)
    return fill(model, weights)
