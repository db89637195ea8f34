"""Random heads as soft label maps: deformed from the template, with skull, scalp, eyes and neck around.

Population averages are smoother and more alike than heads are. So the average is stretched, turned and bent,
ventricles and sulci are widened, and the borders of grey matter are redrawn by smooth noise before the maps
are averaged to voxels (as SynthSeg does with maps of single heads: Billot et al., Medical Image
Analysis 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from fornix.training.data import head_template as t
from fornix.training.data.head_template import HeadTemplate

#: What a voxel holds, by place in `HeadLabels.parts`; the first ten are inside of the skull.
PARTS = (
    "cortex", "white", "csf", "thalamus", "striatum", "pallidum", "cerebellar grey", "cerebellar white",
    "brainstem", "cord", "skull", "fat", "muscle", "eye", "other",
)  # fmt: skip
INSIDE = 10
#: mm of a voxel, and voxels (X, Y, Z) of a head.
STEP, GRID = 2.5, (88, 104, 96)
#: Places (MNI, mm) beside air, where EPI distorts and fades: frontal, sphenoid, both ears; width in mm.
_SINUSES = ((0, 52, -20, 15), (0, 28, -24, 13), (48, -18, -30, 13), (-48, -18, -30, 13))
_EYES = ((33, 58, -42), (-33, 58, -42))


@dataclass(frozen=True, eq=False)
class HeadLabels:
    """One head on a grid of STEP, axes RAS, as bytes: 255 is 1.

    Attributes:
        parts: (15, X, Y, Z) volumes of PARTS; what is missing to 1 is air.
        fa: (X, Y, Z) of the template.
        white_share: (X, Y, Z) of the tissue, by the template, where it has both.
        left: (X, Y, Z) 1 on the left of the midplane.
        pile: (X, Y, Z) factor of the signal where EPI piles it up or fades it, 64 is 1.
    """

    parts: torch.Tensor
    fa: torch.Tensor
    white_share: torch.Tensor
    left: torch.Tensor
    pile: torch.Tensor


def uniform(draw: torch.Generator, low: float, high: float) -> float:
    """A number between two."""
    return low + (high - low) * float(torch.rand(1, generator=draw))


def chance(draw: torch.Generator, share: float) -> bool:
    """True in this share of calls."""
    return float(torch.rand(1, generator=draw)) < share


def waves(
    draw: torch.Generator, grid: tuple[int, int, int], spacing: float, count: int = 1
) -> torch.Tensor:
    """Smooth random maps (count, X, Y, Z) of standard deviation about 1; spacing in voxels."""
    coarse = [max(2, round(n / spacing) + 1) for n in grid]
    noise = torch.randn((1, count, *coarse), generator=draw)
    # Linear interpolation between independent numbers lowers the standard deviation to about 0.55.
    return F.interpolate(noise, size=grid, mode="trilinear", align_corners=True)[0] / 0.55


def random_head(template: HeadTemplate, draw: torch.Generator) -> HeadLabels:
    """A head that looks like no other. template: see `head_template`. draw: all chance."""
    whole = template.maps
    if chance(draw, 0.5):  # the other side's asymmetries
        template = HeadTemplate(
            whole.flip(1), template.fields.flip(2) * _MIRROR, template.origin
        )  # fmt: skip
    place, air = _places(template, draw)
    place, pile = _bent_by_epi(place, air, draw)
    wide = uniform(draw, -1.5, 9.0) if chance(draw, 0.5) else 0.0
    shrunk = uniform(draw, -1.0, 3.5) if chance(draw, 0.5) else 0.0
    steps = _sample(template.fields, place, template.origin, 2.0).reshape(2, 3, *GRID)
    inner = place + wide * steps[0]
    parts, fa, share, left, skull = _brain(template, inner, place, shrunk * steps[1], draw)
    parts = torch.cat([parts, _outside(skull, place, draw)])
    return HeadLabels(_bytes(parts), _bytes(fa), _bytes(share), _bytes(left), _bytes(pile / 4))


_MIRROR = torch.tensor([-1.0, 1.0, 1.0]).reshape(1, 3, 1, 1, 1)


def _bytes(values: torch.Tensor) -> torch.Tensor:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _places(template: HeadTemplate, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Where in the template each voxel lies, (3, X, Y, Z) MNI mm; how near to sinuses, (X, Y, Z)."""
    axes = [(torch.arange(n) - (n - 1) / 2) * STEP for n in GRID]
    own = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    strong = chance(draw, 0.5)
    turn = torch.tensor([uniform(draw, -1, 1) for _ in range(3)]) * (0.55 if strong else 0.15)
    # The template is a large head: most are 3 to 14% shorter.
    scale = uniform(draw, 0.78, 1.1) * torch.tensor([uniform(draw, 0.93, 1.07) for _ in range(3)])
    shear = torch.eye(3) + 0.06 * torch.randn((3, 3), generator=draw).triu(1)
    matrix = _rotation(turn) @ shear @ torch.diag(1 / scale)
    shift = torch.tensor([uniform(draw, -6, 6) for _ in range(3)])
    middle = torch.tensor([0.0, -18.0, 0.0])
    place = torch.einsum("ij,jxyz->ixyz", matrix, own - shift[:, None, None, None])
    place = place + middle[:, None, None, None]
    size = uniform(draw, 0.2, 1.2)
    for spacing, amount in ((16, 3.2), (8, 1.3), (4, 0.5)):
        place = place + size * amount * waves(draw, GRID, spacing, 3)
    air = torch.zeros(GRID)
    for *centre, width in _SINUSES:
        jitter = [c + uniform(draw, -5, 5) for c in centre]
        away = sum((place[i] - jitter[i]) ** 2 for i in range(3))
        air = air + uniform(draw, 0, 1) * torch.exp(-torch.as_tensor(away) / (2 * width**2))
    return place, air


def _rotation(turn: torch.Tensor) -> torch.Tensor:
    x, y, z = turn.tolist()
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return torch.linalg.matrix_exp(skew)


def _bent_by_epi(
    place: torch.Tensor, air: torch.Tensor, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places as EPI shows them, and the factor of the signal: piled up, stretched or lost near air."""
    lost = torch.exp(-uniform(draw, 0.0, 2.5) * air**2) if chance(draw, 0.6) else torch.ones(GRID)
    if chance(draw, 0.25):
        return place, lost
    axis = 1 if chance(draw, 0.75) else 0 if chance(draw, 0.8) else 2
    size = uniform(draw, -12.0, 12.0)
    field = size * air + uniform(draw, 0, 2.0) * waves(draw, GRID, 20)[0]
    # Along the axis, as far as a head's places differ from voxel to voxel.
    slope = torch.gradient(place, dim=axis + 1)[0] / STEP
    squeeze = 1 + torch.gradient(field, dim=axis)[0] / STEP
    return place + field * slope, lost * squeeze.clamp(0.15, 3.5)


def _sample(
    maps: torch.Tensor, place: torch.Tensor, origin: np.ndarray, size: float
) -> torch.Tensor:
    """Maps (…, X, Y, Z) of a step in mm at places (3, …) in MNI mm, channels first."""
    flat = maps.reshape(1, -1, *maps.shape[-3:])
    corner = torch.as_tensor(origin, dtype=torch.float32)[:, None, None, None]
    extent = torch.tensor([n - 1.0 for n in maps.shape[-3:]])[:, None, None, None]
    unit = 2 * (place - corner) / (size * extent) - 1
    grid = unit.flip(0).permute(1, 2, 3, 0)[None]
    return F.grid_sample(flat, grid, padding_mode="border", align_corners=True)[0]


def _finer(values: torch.Tensor) -> torch.Tensor:
    """(C, X, Y, Z) on half the step: the eight points in each voxel whose mean is the voxel."""
    return F.interpolate(values[None], scale_factor=2, mode="trilinear", align_corners=False)[0]


def _brain(
    template: HeadTemplate, inner: torch.Tensor, place: torch.Tensor, shrink: torch.Tensor,
    draw: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Parts inside the skull (10, …), FA, white share, left, and the inside of the skull, all 0 to 1.

    inner: places with wider ventricles; shrink: what tissue alone is moved by, the skull is not.
    """
    depth = _sample(template.maps[t.SKULL_DISTANCE][None], place, template.origin, 1.0)[0]
    near = torch.nonzero(depth > -4)
    low = near.min(0).values
    high = near.max(0).values + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
    rim = 0.0 if chance(draw, 0.4) else uniform(draw, 0, 3.0)
    fine = _finer((inner + shrink)[(slice(None), *box)])
    maps = _sample(template.maps, fine, template.origin, 1.0)
    skull = torch.sigmoid((_finer((depth + rim)[box][None])[0]) / 0.5)
    tissue = _redrawn(maps[t.WHITE], maps[t.GREY], skull, draw)
    white, grey = tissue[0], tissue[1]
    skull = torch.maximum(skull, white + grey)
    solid = white + grey
    deep = maps[t.THALAMUS : t.PALLIDUM + 1]
    behind, stem = maps[t.CEREBELLUM], maps[t.BRAINSTEM]
    left_over = (1 - deep.sum(0) - behind - stem).clamp(0, 1)
    below = (fine[2] < -72).float()
    made = torch.stack(
        [
            grey * left_over, white * left_over, skull - solid, *(deep * solid), grey * behind,
            white * behind, stem * solid * (1 - below), stem * solid * below,
        ]
    )  # fmt: skip
    total = made.sum(0).clamp(min=1e-6)
    made = made * (skull / total)
    left = torch.sigmoid(-fine[0] / 0.7)
    share = white / solid.clamp(min=1e-3)
    stack = torch.cat([made, torch.stack([maps[t.FA], share, left, skull])])
    coarse = F.avg_pool3d(stack[None], 2)[0]
    out = torch.zeros((len(stack), *GRID))
    out[-2] = torch.sigmoid(-place[0])
    out[(slice(None), *box)] = coarse
    return out[:INSIDE], out[INSIDE], out[INSIDE + 1], out[INSIDE + 2], out[INSIDE + 3]


def _redrawn(
    white: torch.Tensor, grey: torch.Tensor, skull: torch.Tensor, draw: torch.Generator
) -> torch.Tensor:
    """White and grey (2, …) with sharper borders that were moved at random: each head's own gyri."""
    water = (1 - white - grey).clamp(0, 1)
    odds = torch.log(torch.stack([white, grey, water]).clamp(min=0.02))
    sharp = uniform(draw, 1.0, 3.5)
    bias = torch.tensor([0.0, uniform(draw, -0.8, 0.8), uniform(draw, -1.2, 0.6)])
    size = odds.shape[1:]
    moved = uniform(draw, 0, 1.0) * waves(draw, (size[0], size[1], size[2]), 5, 3)
    wide = uniform(draw, 0, 0.5) * waves(draw, (size[0], size[1], size[2]), 14, 3)
    shares = torch.softmax(sharp * (odds + bias[:, None, None, None] + moved + wide), 0)
    # Where the template is certain (water alone, outside), noise makes no tissue.
    some = ((white + grey) > 0.04).float()
    return shares[:2] * some * skull


def _outside(skull: torch.Tensor, place: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Skull, fat, muscle, eye and other (5, X, Y, Z) around the inside of the skull."""
    inside = (skull > 0.5).numpy()
    away = torch.from_numpy(ndimage.distance_transform_edt(~inside, STEP).astype(np.float32))
    bumps = waves(draw, GRID, 8, 4)
    bone = (uniform(draw, 3, 9) * (1 + 0.25 * bumps[0])).clamp(min=1.5)
    scalp = (uniform(draw, 2, 9) * (1 + 0.3 * bumps[1])).clamp(min=0.5)
    x, y, z = place
    face = ((x / 62) ** 2 + ((y - 45) / 48) ** 2 + ((z + 75) / 58) ** 2) < 1
    neck = ((x / 58) ** 2 + ((y + 22) / 62) ** 2 < 1) & (z < -45)
    body = (face | neck) & (away > bone * 0.6)
    made = torch.zeros((5, *GRID))
    made[0] = (away > 0) & (away <= bone)
    made[1] = (away > bone) & (away <= bone + scalp)
    mix = bumps[2] + uniform(draw, -0.3, 0.6)
    for i, part in enumerate((mix < -0.6, (mix > -0.2) & (mix < 1.0), mix > 1.3)):
        made[(1, 2, 4)[i]] = torch.where(body, part.float(), made[(1, 2, 4)[i]])
    made[0] = torch.where(body, torch.zeros(()), made[0])
    muscle = (
        (bumps[3] > 0.3) & (z < -5) & (made[1] > 0)
    )  # temporal and neck muscles lie under the scalp
    made[2], made[1] = torch.maximum(made[2], muscle.float()), made[1] * ~muscle
    for sign, centre in zip((1, -1), _EYES):
        c = [v + uniform(draw, -4, 4) for v in centre]
        from_eye = torch.sqrt((x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2)
        ball = from_eye < uniform(draw, 10.5, 13.5)
        # The orbit is a cone of fat and muscle behind the eye, and the nerve runs in its middle.
        back = ((c[1] - y) / 40).clamp(0, 1)
        axis_x, axis_z = c[0] - sign * 22 * back, c[2] + 14 * back
        off = torch.sqrt((x - axis_x) ** 2 + (z - axis_z) ** 2)
        behind = (y < c[1]) & (y > c[1] - 40)
        cone = behind & (off < 15 * (1 - 0.7 * back)) & (away > 0)
        nerve = behind & (off < 2.5) & (away > 0)
        for region, kind in ((cone, 1), (nerve, 4), (ball & (away > 0), 3)):
            made[:, region] = 0
            made[kind, region] = 1
    soft = F.avg_pool3d(F.pad(made[None], (1,) * 6), 3, stride=1)[0]
    made = 0.6 * made + 0.4 * soft
    room = (1 - skull).clamp(0, 1)
    return made * room / made.sum(0).clamp(min=1)
