"""From the raw scan to one that can be fitted: noise, mask, denoising, corrections, quality."""

from fornix.preprocess.correct import CORRECT_METHODS, correct
from fornix.preprocess.denoise import DENOISE_METHODS, denoise
from fornix.preprocess.mask import MASK_METHODS, brain_mask
from fornix.preprocess.noise import NOISE_METHODS, estimate_noise, snr

__all__ = [
    "CORRECT_METHODS",
    "DENOISE_METHODS",
    "MASK_METHODS",
    "NOISE_METHODS",
    "brain_mask",
    "correct",
    "denoise",
    "estimate_noise",
    "snr",
]
