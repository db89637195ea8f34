"""A tractogram divided into tracts: what `fornix label` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fornix.core.errors import FornixError, tell
from fornix.core.tractogram import Tractogram
from fornix.io import load_tractogram, save_tractogram, stem_of
from fornix.io.files import atomic, output_folder
from fornix.tracts.files import load_tracts
from fornix.tracts.label import label_streamlines

_TABLE = "_desc-tracts_dseg.tsv"


def label_file(
    tractogram: Path, tracts: Path, out: Path, threshold: float, extension: str = "tck"
) -> str:
    """Write the streamlines of each tract to a file of its own, and a table.

    Args:
        tractogram: File of the same head.
        tracts: Folder that `fornix tracts` wrote.
        out: Folder for the results.
        threshold: Score from which a streamline belongs to a tract.
        extension: trx, tck or trk.

    Returns:
        One line on the result. The table holds `tractID count mean_length_mm mean_score`, last the
        streamlines of no tract (`none`).

    Raises:
        FornixError: No tracts, or of several scans, in the folder; see `label_streamlines`.
    """
    stem = _stem(tracts)
    found = load_tracts(tracts, stem)
    lines = load_tractogram(tractogram, reference=tracts / f"{stem}_desc-tracts_probseg.nii.gz")
    labels = label_streamlines(lines, found, threshold=threshold)
    folder, name = output_folder(out), stem_of(tractogram.stem)
    lengths = lines.lengths()
    rows = ["tractID\tcount\tmean_length_mm\tmean_score"]
    for i, tract in enumerate((*labels.names, "none")):
        chosen = np.flatnonzero(labels.tract == (i if tract != "none" else -1))
        if len(chosen) and tract != "none":
            save_tractogram(
                _some(lines, chosen), folder / f"{name}_tract-{tract.replace('_', '')}.{extension}"
            )
        means = [
            f"{v[chosen].mean():.2f}" if len(chosen) else "n/a" for v in (lengths, labels.score)
        ]
        rows.append("\t".join([tract, str(len(chosen)), *means]))
    table = folder / f"{name}_desc-tracts_streamlines.tsv"
    with atomic(table) as temporary:
        temporary.write_text("\n".join(rows) + "\n")
    kept = int((labels.tract >= 0).sum())
    with_any = len(set(labels.tract[labels.tract >= 0].tolist()))
    if kept < 0.05 * len(lines):
        tell(f"only {kept} of {len(lines)} streamlines belong to any tract: is it of this head?")
    return f"{kept:,} of {len(lines):,} streamlines belong to {with_any} tracts; table: {table}"


def _stem(folder: Path) -> str:
    tables = sorted(folder.glob(f"*{_TABLE}"))
    if len(tables) != 1:
        count = "no" if not tables else f"{len(tables)} scans'"
        raise FornixError(f"{folder} holds {count} tracts ({_TABLE}); give the folder of one scan")
    return tables[0].name.removesuffix(_TABLE)


def _some(lines: Tractogram, chosen: np.ndarray) -> Tractogram:
    return Tractogram.from_list([lines[int(i)] for i in chosen], lines.affine, lines.grid)
