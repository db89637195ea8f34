"""The tract network: a tract alone and in a mixed batch are the same; unseen tracts have no numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.nets import weights
from fornix.tracts.evidence import FEATURES, STATIONS
from fornix.tracts.network import NAME, TractModel, TractNet, Usual, groups_of, load_model
from fornix.tracts.segment import tract_names


@pytest.fixture
def net() -> TractNet:
    torch.manual_seed(0)
    made = TractNet(3)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        made.own.weight[0], made.own_linear.weight[0] = 0, 0
    made.middle.normal_()
    made.size.uniform_(0.5, 2)
    return made.eval()


def test_one_tract_at_a_time_is_the_same_as_all_together(net: TractNet) -> None:
    x = torch.randn(40, len(FEATURES))
    tract = torch.arange(40) % 4
    together = net(x, tract)
    for number in range(4):
        own = tract == number
        torch.testing.assert_close(net.of_one(x[own], number), together[own], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(net.of_one(x, 0), net.of_one(x, 1))


def test_what_is_not_known_has_shared_numbers_and_survives_its_file(
    net: TractNet, tmp_path
) -> None:
    rng = np.random.default_rng(0)
    usual = {
        name: Usual(
            0.4,
            0.5,
            0.1,
            0.3,
            0.02,
            rng.random(STATIONS, np.float32),
            rng.random(STATIONS, np.float32),
        )
        for name in ("A", "B", "C")
    }
    model = TractModel(net, usual)
    x = rng.standard_normal((20, len(FEATURES))).astype(np.float32)
    odds = net.of_one(torch.from_numpy(x), 0).detach().numpy()
    usual = x[:, FEATURES.index("usual place")]
    stranger = model.probability("D", x)
    sure = stranger > 0.5
    assert (odds[sure] > -2).all() and sure.any()
    mixed = 1 / (1 + np.exp(-(0.25 * odds + 0.75 * usual)))
    free = odds + 2 > 0.25 * odds + 0.75 * usual
    np.testing.assert_allclose(stranger[free], mixed[free], rtol=1e-4)
    assert free.any() and not free.all()
    own = torch.sigmoid(net.of_one(torch.from_numpy(x), 2)).detach().numpy()
    np.testing.assert_allclose(model.probability("B", x), own, rtol=1e-5)
    assert model.threshold_of("D") == 0.45 and model.threshold_of("B") == 0.4
    assert model.number == {"A": 1, "B": 2, "C": 3}
    groups = groups_of(model)
    path = weights.save(NAME, groups, {"tracts": list("ABC"), "recipe": {}, "steps": 1}, tmp_path)
    loaded = weights.load(NAME, tmp_path)
    assert path.exists()
    again = weights.fill(TractNet(3), loaded)
    torch.testing.assert_close(
        again.of_one(torch.from_numpy(x), 2), net.of_one(torch.from_numpy(x), 2)
    )


def test_the_model_that_ships_knows_the_tracts_of_its_atlas() -> None:
    model = load_model()
    assert list(model.usual) == tract_names()
    assert model.label.startswith("tracts:")
    for name, usual in model.usual.items():
        assert 0.1 < usual.threshold < 0.75 and 0.1 < usual.atlas_threshold < 0.75, name
        assert 0 < usual.volume_error < 0.6 and usual.support_spread > 0, name
        some = np.isfinite(usual.left)
        assert some.sum() >= 8 and (usual.left[some] > 0).all(), name
