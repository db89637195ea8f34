"""Signals on q-space: the prior from the physics and the encoder of any protocol."""

from fornix.qspace.encoder import Encoder, Posterior
from fornix.qspace.predict import normalised, predict
from fornix.qspace.prior import SignalPrior, default_prior, made_prior, prior_of

__all__ = [
    "Encoder",
    "Posterior",
    "SignalPrior",
    "default_prior",
    "made_prior",
    "normalised",
    "predict",
    "prior_of",
]
