"""A connectome as files: a matrix each, and the table of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.analysis.connectome import Connectome
from fornix.core.errors import FornixError
from fornix.io.files import atomic, input_file, output_folder
from fornix.io.names import derivative
from fornix.io.sidecar import write_sidecar


def tractogram_stem(path: str | Path) -> str:
    """What the names of outputs begin with: the file's name without extension, desc- and suffix."""
    name = Path(path).name
    for extension in (".trx", ".tck", ".trk"):
        name = name.removesuffix(extension)
    parts = [p for p in name.removesuffix("_tractogram").split("_") if not p.startswith("desc-")]
    return "_".join(parts) or name


def save_connectome(
    made: Connectome, folder: str | Path, stem: str, provenance: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write every matrix (`STEM_desc-count_relmat.tsv`), its standard deviation
    (`STEM_desc-countStd_relmat.tsv`), and the nodes in the order of the rows (`STEM_desc-nodes_relmat.tsv`).

    Matrices are symmetric, without a header, parted by tabs; `n/a` is a pair that nothing is known of.
    Returns the paths.
    """
    folder, written = output_folder(folder), []
    nodes = folder / derivative(stem, "relmat", desc="nodes", extension=".tsv")
    with atomic(nodes) as temporary:
        rows = zip(made.nodes, made.names, made.volumes, made.ends)
        lines = [f"{i}\t{name or 'n/a'}\t{v:.6g}\t{n}" for i, name, v, n in rows]
        temporary.write_text("\n".join(["index\tname\tvolume\tends", *lines]) + "\n")
    fields = {"Description": "Nodes in the order of the rows", "Units": "volume mm^3"}
    write_sidecar(nodes, {**fields, **(provenance or {})})
    written.append(nodes)
    for name, matrix in made.matrices.items():
        for desc, values in ((name, matrix.value), (f"{name}Std", matrix.std)):
            path = folder / derivative(stem, "relmat", desc=desc, extension=".tsv")
            _write(path, values)
            what = "Standard deviation by resampling streamlines of" if desc != name else "Edges by"
            write_sidecar(
                path,
                {"Description": f"{what} {name}", "Units": matrix.units, "Nodes": nodes.name,
                 **(provenance or {})},
            )  # fmt: skip
            written.append(path)
    return written


def read_weights(path: str | Path) -> NDArray[np.float64]:
    """One weight per streamline from a text file: MRtrix3's (`#` begins a comment), blanks or lines."""
    text = input_file(path, "file of weights").read_text(encoding="utf-8-sig")
    words = [w for line in text.splitlines() for w in line.split("#")[0].replace(",", " ").split()]
    try:
        return np.array(words, np.float64)
    except ValueError as error:
        raise FornixError(f"{path} is not a list of numbers: {str(error)[:60]}") from None


def _write(path: Path, values: NDArray[np.float64]) -> None:
    with atomic(path) as temporary:
        lines = ("\t".join("n/a" if v != v else f"{v:.7g}" for v in row) for row in values)
        temporary.write_text("\n".join(lines) + "\n")
