"""Tractography: tissue for stopping, trackers, streamlines, and their score against truth."""

from fornix.tracking.filter import filter_tractogram, score_streamlines
from fornix.tracking.score import BundleScore, Score, score
from fornix.tracking.tissue import Tissue, tissue_shares
from fornix.tracking.track import TRACK_METHODS, track
from fornix.tracking.truth import BundleTruth, read_truth, write_truth

__all__ = [
    "TRACK_METHODS",
    "BundleScore",
    "BundleTruth",
    "Score",
    "Tissue",
    "filter_tractogram",
    "read_truth",
    "score",
    "score_streamlines",
    "tissue_shares",
    "track",
    "write_truth",
]
