"""The documentation says what is so: its code runs, its commands and options exist, its links lead
to a file, and every command is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

import fornix
from fornix.cli.app import app
from fornix.io import save_mask, save_scan
from fornix.physics import Phantom, simulate

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "src" / "fornix").glob("*/README.md"),
    ],
    key=lambda p: str(p.relative_to(REPOSITORY)),
)
#: Pages whose ```python and ```bash blocks are run in order. Other fences (sh, console, text) show.
#: Tutorials have a test of their own.
RUN = [
    p for p in PAGES if not {"benchmarks", "tutorials"} & set(p.parts) and p.name != "CHANGELOG.md"
]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def params_of(command: str, rest: str) -> list:
    """Arguments and options of a command, or of the one of a group that the words after it name."""
    found = COMMANDS[command]
    inner = getattr(found, "commands", {}).get((rest.split() or [""])[0])
    return (inner or found).params


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@pytest.fixture(scope="session")
def small() -> Phantom:
    """A head of 6 mm voxels."""
    return simulate(protocol="demo", snr=30, voxel_size=6.0, seed=0, threads=1)


@pytest.fixture
def folder(small: Phantom, tmp_path: Path) -> Path:
    """A folder with what the pages speak of: dwi.nii.gz, its bval and bvec, and mask.nii.gz."""
    save_scan(small.dwi, tmp_path / "dwi.nii.gz")
    save_mask(small.mask, small.dwi.affine, tmp_path / "mask.nii.gz")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name)
def test_code_runs(page: Path, folder: Path, run_page) -> None:
    run_page(page, folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_told(command: str) -> None:
    told = "\n".join(p.read_text(encoding="utf-8") for p in RUN)
    assert f"fornix {command}" in told


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page: Path, fences) -> None:
    for _, line, code, _ in fences(page):
        joined = code.replace("\\\n", " ")
        for used in re.finditer(r"(?<![\w./-])fornix +([a-z]+)([^\n|;&)]*)", joined):
            if used[1] == "import":  # Python, not the command
                continue
            where = f"{name(page)}, block at line {line}: fornix {used[1]}"
            assert used[1] in COMMANDS, where
            known = {o for p in params_of(used[1], used[2]) for o in p.opts} | {"--help"}
            for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", used[2]):
                assert option in known, f"{where} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(<?([^)>\s]+)>?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page if not path else (page.parent / path)
        assert there.exists(), f"{name(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ +(.+)$", there.read_text("utf-8"), flags=re.MULTILINE)
            assert anchor in {_anchor(h) for h in headings}, f"{name(page)} links to {target}"


def test_every_page_is_linked() -> None:
    docs = REPOSITORY / "docs"
    index = (docs / "index.md").read_text("utf-8")
    site = (REPOSITORY / "mkdocs.yml").read_text("utf-8")
    for page in docs.rglob("*.md"):
        if page.parent.name in ("benchmarks", "experiments"):  # these have an index of their own
            listed = (page.parent / "README.md").read_text("utf-8")
            assert page.name == "README.md" or f"]({page.name})" in listed
        elif page.name != "index.md" and page.parent.name != "tutorials":
            assert page.relative_to(docs).as_posix() in index
        assert page.relative_to(docs).as_posix() in site


def test_the_version_is_the_same_everywhere() -> None:
    cited = re.search(
        r"^version: *\"?([\w.]+)", (REPOSITORY / "CITATION.cff").read_text("utf-8"), re.MULTILINE
    )
    assert cited and cited[1] == fornix.__version__
    assert f"## [{fornix.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")


def _anchor(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return plain.strip().replace(" ", "-")
