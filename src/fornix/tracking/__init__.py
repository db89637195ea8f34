"""Tractography: tissue for stopping, trackers, streamlines."""

from fornix.tracking.tissue import Tissue, tissue_shares
from fornix.tracking.track import TRACK_METHODS, track

__all__ = ["TRACK_METHODS", "Tissue", "tissue_shares", "track"]
