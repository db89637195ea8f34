"""A study's template from its scans: what `fornix template` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.errors import FornixError
from fornix.core.grid import head_scale
from fornix.estimators.mask import brain_mask
from fornix.io import load, write_sidecar
from fornix.io.files import atomic, protected, sha256
from fornix.io.nifti import image_files, write_image
from fornix.register.features import Features
from fornix.register.scan_features import scan_features
from fornix.register.study_template import ROUNDS, as_template, study_template
from fornix.register.template import Template, load_template, save_template
from fornix.workflow.job import Job, Show, Silent

#: What the files' names begin with.
STEM = "template"


@dataclass(frozen=True, eq=False)
class Made:
    """A template, and the mean squared difference of the heads from it, round by round."""

    template: Template
    differences: tuple[float, ...]


def make_template(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    rounds: int = ROUNDS,
    threads: int | None = None,
    max_memory: str | None = None,
    show: Show | None = None,
) -> Path:
    """The mean of some scans' heads in their mean shape, as a template to register to.

    Args:
        paths: Scans, one a person.
        out: Folder for the results.
        rounds: See `study_template`.
        threads: Of torch.
        max_memory: Limits what a scan takes.
        show: Tells what is done; silent if absent.

    Returns:
        The template, `template.npz`.

    Raises:
        FornixError: Fewer than two scans, one twice, or one that shows no human brain.
    """
    show = show or Silent()
    if rounds < 1:
        raise FornixError(f"--rounds must be 1 or more, not {rounds}")
    inputs = _hashes(paths)
    with protected(*paths):
        job = Job(out, STEM, inputs, show)
        path = job.out / f"{STEM}.npz"

        def compute(progress: Any) -> Made:
            heads = [_head(p, max_memory) for p in paths]
            made = study_template(heads, rounds=rounds, threads=threads, progress=progress)
            return Made(as_template(made[-1].mean), tuple(r.difference for r in made))

        job.step(
            "template",
            {"rounds": rounds},
            compute,
            lambda made, provenance: _save(made, job.out, provenance),
            lambda: Made(load_template(path), ()),
            lambda made: (
                "difference of the heads from their mean by round: "
                + ", ".join(f"{d:.3f}" for d in made.differences)
            ),
        )
    return path


def _hashes(paths: Sequence[str | Path]) -> dict[str, str]:
    if len(paths) < 2:
        raise FornixError("a template needs two scans or more, one a person")
    inputs: dict[str, str] = {}
    for path in paths:
        found = sha256(*image_files(path))
        if found in inputs.values():
            raise FornixError(f"{path} is among the scans twice; give each person once")
        inputs[f"Scan{len(inputs) + 1}"] = found
    return inputs


def _head(path: str | Path, max_memory: str | None) -> Features:
    dwi = brain_mask(load(path, max_memory=max_memory))
    if head_scale(dwi.brain(), dwi.voxel_size) < 1:
        raise FornixError(f"{path}: the brain is smaller than a human's; it cannot join a template")
    return scan_features(dwi)


def _save(made: Made, out: Path, provenance: dict[str, Any]) -> list[Path]:
    template, affine = made.template, made.template.affine
    path = save_template(template, out / f"{STEM}.npz")
    fa = write_image(out / f"{STEM}_model-dti_param-fa_dwimap.nii.gz", template.fa, affine)
    tissue = np.moveaxis(template.tissue, 0, -1)
    tissues = write_image(out / f"{STEM}_desc-tissues_probseg.nii.gz", tissue, affine)
    table = out / f"{STEM}_desc-rounds.tsv"
    with atomic(table) as temporary:
        rows = [f"{i}\t{d:.6g}" for i, d in enumerate(made.differences)]
        temporary.write_text("\n".join(["round\tdifference", *rows]) + "\n")
    texts = {
        path: "the mean of all heads in their mean shape: fornix register SCAN template.npz",
        fa: "FA of the mean's tensor",
        tissues: "probabilities of cortical and deep grey matter, white matter, fluid, cerebellum, brainstem",
        table: "mean squared difference of the heads from their mean; round 0: turned and shifted only",
    }  # fmt: skip
    for file, text in texts.items():
        write_sidecar(file, {"Description": text, "Units": "1", **provenance})
    return list(texts)
