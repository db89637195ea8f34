"""What a job has written, in a few lines: where to look first, and what is what."""

from __future__ import annotations

from pathlib import Path

#: Pattern after STEM, and what it is; in the order in which they are looked at.
_KINDS = (
    ("_report.html", "everything on one page: open this first"),
    ("_qc.json", "quality measures and warnings, for programs"),
    (
        "_desc-qc_timeseries.tsv",
        "quality of each raw volume; beside it slices, summary, carpet plot",
    ),
    ("_model-dti_param-*_dwimap.nii.gz", "diffusion tensor maps: fa, md, ad, rd, tensor, v1, s0"),
    ("_model-dki_param-*_dwimap.nii.gz", "kurtosis maps: mk, ak, rk, kfa"),
    ("_model-noddi_param-*_dwimap.nii.gz", "NODDI maps: ndi, odi, odiw, fwf, direction, s0"),
    ("_desc-trust_mask.nii.gz", "1 where the maps can be trusted"),
    ("_param-ood_dwimap.nii.gz", "out-of-distribution score of each voxel"),
    ("_param-fod_dwimap.nii.gz", "fibre orientation distributions; beside it peaks, wm, gm, csf"),
    ("_tractogram.*", "streamlines"),
    (
        "_desc-tracts_dseg.tsv",
        "tracts: state, presence, volume, length, reason where one is missing",
    ),
    (
        "_desc-tracts_probseg.nii.gz",
        "probability of each tract, a volume each; beside it endings, directions (tom), places (along)",
    ),
    (
        "_desc-tracts_tractogram.trx",
        "streamlines of each tract, a group each; beside it their numbers",
    ),
    (
        "_desc-profiles_tracts.tsv",
        "maps along each tract, with standard deviations; beside it means",
    ),
    ("_from-*_xfm.nii.gz", "warps to and from MNI space, ITK (and desc-mrtrix)"),
    ("_desc-preproc_dwi.nii.gz", "the scan after preprocessing, with its table"),
    (
        "_desc-confounds_timeseries.tsv",
        "pose of the head, eddy field and lost slices of each volume",
    ),
    ("_fieldmap.nii.gz", "susceptibility field, Hz; beside it unwarped b0s"),
    ("_dseg.nii.gz", "tissue of each voxel; beside it its table and a probability map of each"),
    ("_desc-brain_mask.nii.gz", "brain mask"),
    ("_desc-raw_mask.nii.gz", "brain mask of the raw, distorted scan"),
)


def contents(folder: Path, stem: str) -> list[tuple[str, str]]:
    """(file name or pattern, what it is) of what is there, in the order in which it is looked at.

    Args:
        folder: With the results.
        stem: What their names begin with.
    """
    names = {p.name.removeprefix(stem) for p in folder.iterdir() if p.name.startswith(f"{stem}_")}
    lines = []
    for pattern, text in _KINDS:
        before, star, after = pattern.partition("*")
        found = sorted(
            n for n in names
            if n == pattern or (star and n.startswith(before) and n.endswith(after) and "desc-" not in n)
        )  # fmt: skip
        found = [n for n in found if not n.endswith(".json") or pattern.endswith(".json")]
        if len(found) == 1:
            lines.append((stem + found[0], text))
        elif found:
            lines.append((stem + pattern, text))
    if any("_desc-std_" in n for n in names):
        lines.append((f"{stem}_…_desc-std_dwimap.nii.gz", "standard deviation beside each map"))
    return lines
