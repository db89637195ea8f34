"""Files in and out: NIfTI, gradient tables, BIDS names, sidecars, tractograms."""

from fornix.io.names import derivative, results_folder, sidecar_path, stem_of
from fornix.io.nifti import read_volume, write_image
from fornix.io.outputs import load_maps, save_maps, save_mask
from fornix.io.scan import load, read_mask, save_scan
from fornix.io.sidecar import read_json, read_sidecar, write_json, write_sidecar
from fornix.io.tables import read_fsl, read_mrtrix, write_fsl, write_mrtrix
from fornix.io.tractograms import load_tractogram, save_tractogram

__all__ = [
    "derivative",
    "load",
    "load_maps",
    "load_tractogram",
    "read_fsl",
    "read_json",
    "read_mask",
    "read_mrtrix",
    "read_sidecar",
    "read_volume",
    "results_folder",
    "save_maps",
    "save_mask",
    "save_scan",
    "save_tractogram",
    "sidecar_path",
    "stem_of",
    "write_fsl",
    "write_image",
    "write_json",
    "write_mrtrix",
    "write_sidecar",
]
