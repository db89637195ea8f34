"""Cards say how the weights that ship were made, and it is true."""

from __future__ import annotations

import json
import re

import pytest

from fornix.nets import weights
from fornix.training.recipes import RECIPES


@pytest.mark.parametrize("name", weights.manifest())
def test_the_card_is_of_the_file_that_ships(name):
    loaded, card = weights.load(name), (weights.FOLDER / f"{name}.md").read_text()
    assert f"sha256 `{loaded.sha256}`" in card
    block = re.search(r"```json\n(.*?)```", card, re.DOTALL)
    if block:
        assert json.loads(block[1])["steps"] == loaded.about["recipe"]["steps"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_says_the_steps_that_the_weights_had(name):
    about, card = weights.load(name).about, (weights.FOLDER / f"{name}.md").read_text()
    runs = [int(run.partition(" ")[0].replace(",", "")) for run in about["earlier"]]
    total = about["steps"] + sum(runs)
    assert RECIPES[name].steps == total
    assert f"{total:,} steps in all" in card
    for run in about["earlier"]:
        assert run.partition(" with")[0] in card


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_makes_the_network_that_ships(name):
    shipped = weights.load(name).about["recipe"]
    for field in ("kind", "width", "depth", "bank", "rate"):
        assert getattr(RECIPES[name], field) == shipped[field], field
    if shipped["batch"] != RECIPES[name].batch:
        card = (weights.FOLDER / f"{name}.md").read_text()
        assert f"--batch {shipped['batch']}\n" in card.replace(" --keep", "\n")
