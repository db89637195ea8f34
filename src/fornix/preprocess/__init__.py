"""From the raw scan to one that can be fitted: noise, denoising, corrections, quality."""

from fornix.preprocess.correct import CORRECT_METHODS, correct
from fornix.preprocess.denoise import DENOISE_METHODS, denoise
from fornix.preprocess.noise import NOISE_METHODS, estimate_noise, snr

__all__ = [
    "CORRECT_METHODS",
    "DENOISE_METHODS",
    "NOISE_METHODS",
    "correct",
    "denoise",
    "estimate_noise",
    "snr",
]
