"""What enhancement changed, as pictures: the measured voxels above the small ones."""

from __future__ import annotations

import numpy as np

from fornix.core.dwi import DWI
from fornix.report import figures as f
from fornix.report.blocks import figure_block


def enhancement_section(measured: DWI, dwi: DWI, summary: str) -> str:
    """HTML: the mean of weighted volumes and one volume, before and after.

    Args:
        measured: The scan before.
        dwi: The scan after, on its own grid.
        summary: Of the step.
    """
    sizes = [" x ".join(f"{v:.3g}" for v in d.voxel_size) for d in (measured, dwi)]
    parts = [
        f"<p>Voxels of {sizes[0]} mm were brought to {sizes[1]} mm before maps, orientations and tracking: "
        f"{summary}. Detail between the measured voxels is an estimate, see "
        "STEM_desc-enhancedstd_dwi for how uncertain it is.</p>"
    ]
    one = int(np.flatnonzero(~dwi.gradients.b0_mask)[0])
    for title, images in (
        ("Mean b0", (measured.mean_b0(), dwi.mean_b0())),
        ("One weighted volume", (measured.volume(one), dwi.volume(one))),
    ):
        top = float(np.percentile(images[0][measured.brain()], 99.5))
        for word, image, scan in zip(("as measured", "enhanced"), images, (measured, dwi)):
            drawn = f.mosaic(image, scan, 0, top)
            parts.append(f"<h3>{title}, {word}</h3>" + figure_block(drawn, "", dark=True))
    return "".join(parts)
