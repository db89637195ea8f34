"""Random diffusion scans of random heads: contrasts of any kind, artefacts, noise, fields of view.

Most scans have tissue as it is (b = 0 signal, diffusivity and anisotropy of each part, widely spread), the
others any contrast at all. A network that sees through both needs neither a protocol nor a scanner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fornix.nets.tissue_channels import channels
from fornix.training.data.head_shapes import INSIDE, PARTS, STEP, HeadLabels, chance, uniform, waves

#: The class (of `tissue_classes.CLASSES`) of each part; the cord is not judged.
_CLASS = (1, 3, 4, 2, 2, 2, 5, 5, 6, -1, 0, 0, 0, 0, 0)
#: b = 0 signal (white matter is 1), diffusivity (µm²/ms), anisotropy at b = 1000, kurtosis; and how much
#: each spreads over scans, as a share.
_TISSUE = {
    "cortex": (1.25, 0.85, 0.12, 0.7), "white": (1.0, 0.75, 0.45, 1.0), "csf": (3.0, 2.9, 0.04, 0.0),
    "thalamus": (1.15, 0.75, 0.25, 0.8), "striatum": (1.1, 0.73, 0.13, 0.7),
    "pallidum": (0.8, 0.75, 0.22, 0.8), "cerebellar grey": (1.2, 0.78, 0.13, 0.7),
    "cerebellar white": (1.0, 0.7, 0.35, 1.0), "brainstem": (1.0, 0.75, 0.4, 0.9),
    "cord": (1.0, 0.8, 0.45, 0.9), "skull": (0.1, 0.6, 0.1, 0.3), "fat": (0.4, 0.12, 0.05, 0.0),
    "muscle": (0.5, 1.4, 0.25, 0.3), "eye": (3.0, 2.8, 0.05, 0.0), "other": (1.2, 1.5, 0.15, 0.4),
}  # fmt: skip
_SPREAD = torch.tensor([0.12, 0.12, 0.25, 0.2])
_SPREAD_OUTSIDE = torch.tensor([0.6, 0.3, 0.4, 0.3])
#: Share of scans with any contrast at all.
ARBITRARY = 0.08
#: Grids of the network are multiples of this.
MULTIPLE = 16
_DIRECTION = {"white", "cerebellar white", "brainstem", "thalamus", "cord"}


@dataclass(frozen=True, eq=False)
class HeadSample:
    """One scan as the network sees it, and what is true.

    Attributes:
        seen: (5, X, Y, Z), see `tissue_channels.channels`.
        target: (7, X, Y, Z) volumes of the classes; all zero where nothing is asked.
        left: (X, Y, Z) 1 on the left.
    """

    seen: torch.Tensor
    target: torch.Tensor
    left: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Contrast:
    """By part, (15,) each, and by voxel where it varies, (X, Y, Z)."""

    b0: torch.Tensor
    diffusivity: torch.Tensor
    anisotropy: torch.Tensor
    kurtosis: torch.Tensor


def random_scan(head: HeadLabels, draw: torch.Generator, size: tuple[int, int, int]) -> HeadSample:
    """A scan of a head.

    Args:
        head: Of `head_shapes.random_head`.
        draw: Of all chance.
        size: Voxels of the box that is cut out, at most the head's grid.
    """
    box = _box(head, draw, size)
    parts = head.parts[(slice(None), *box)].float() / 255
    fa, share = head.fa[box].float() / 255, head.white_share[box].float() / 255
    pile = head.pile[box].float() / 64
    bare = chance(draw, 0.25)  # nothing around the brain, as in phantoms and after skull stripping
    if bare:
        parts = torch.cat([parts[:INSIDE], torch.zeros_like(parts[INSIDE:])])
    target = _target(parts)
    contrast = _arbitrary(draw) if chance(draw, ARBITRARY) else _physical(draw)
    b = uniform(draw, 500, 1500) if chance(draw, 0.7) else uniform(draw, 1500, 3200)
    grid = (pile.shape[0], pile.shape[1], pile.shape[2])
    b0, weighted, anisotropy = _signals(parts, fa, share, contrast, b, draw)
    if chance(draw, 0.25):
        _with_lesions(parts[:INSIDE].sum(0), b0, weighted, anisotropy, draw)
    gain = pile * torch.exp(uniform(draw, 0, 0.35) * waves(draw, grid, 30)[0])
    b0, weighted = b0 * gain, weighted * gain
    field = _field(parts, draw)
    b0, weighted, anisotropy = _scanned(b0, weighted, anisotropy, bare, draw)
    seen = _seen(b0, weighted, b, anisotropy, field, draw)
    left = head.left[box].float() / 255
    tight = _tight(field)
    return HeadSample(
        seen[(slice(None), *tight)], (target * field)[(slice(None), *tight)], left[tight]
    )


def _tight(field: torch.Tensor) -> tuple[slice, slice, slice]:
    """The smallest box of MULTIPLE voxels around what was scanned: little is learned from nothing."""
    made = []
    for axis, n in enumerate(field.shape):
        rest = field.amax(tuple(a for a in range(3) if a != axis)).nonzero()
        low, high = int(rest.min()), int(rest.max()) + 1
        length = min(n, max(2 * MULTIPLE, -(-(high - low) // MULTIPLE) * MULTIPLE))
        start = min(max(0, (low + high - length) // 2), n - length)
        made.append(slice(start, start + length))
    return made[0], made[1], made[2]


def _box(
    head: HeadLabels, draw: torch.Generator, size: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """Where a box of this size is cut out."""
    inside = head.parts[:INSIDE].amax(0) > 127
    made = []
    for axis, n in enumerate(size):
        rest = inside.amax(tuple(a for a in range(3) if a != axis)).nonzero()
        low, high = int(rest.min()), int(rest.max()) + 1
        room = inside.shape[axis] - n
        # A small box lies somewhere in the brain, a large one around it.
        reach = 0.1 * n + max(0.0, (high - low - n) / 2)
        start = round((low + high - n) / 2 + uniform(draw, -reach, reach))
        start = min(max(start, 0), room)
        made.append(slice(start, start + n))
    return made[0], made[1], made[2]


def _target(parts: torch.Tensor) -> torch.Tensor:
    """Volumes of the classes, (7, X, Y, Z); all zero where the spinal cord is."""
    out = torch.zeros((7, *parts.shape[1:]))
    for part, number in enumerate(_CLASS):
        if number > 0:
            out[number] += parts[part]
    out[0] = (1 - out.sum(0)).clamp(0, 1)
    return out * (parts[PARTS.index("cord")] < 0.2)


def _physical(draw: torch.Generator) -> _Contrast:
    values = torch.tensor([_TISSUE[p] for p in PARTS])
    spread = torch.stack([_SPREAD] * INSIDE + [_SPREAD_OUTSIDE] * (len(PARTS) - INSIDE))
    wide = uniform(draw, 0.2, 1.3)
    values = values * torch.exp(wide * spread * torch.randn(values.shape, generator=draw))
    b0, diffusivity, anisotropy, kurtosis = values.unbind(1)
    everywhere = uniform(draw, 0.85, 1.15)
    # Second-order power of real white matter, partial volume and all, is less than a tensor's.
    anisotropy *= math.exp(uniform(draw, math.log(0.3), 0.0))
    csf, fat, skull = (PARTS.index(p) for p in ("csf", "fat", "skull"))
    b0[csf] = uniform(draw, 1.4, 4.5)
    b0[fat] = uniform(draw, 0, 0.3) if chance(draw, 0.6) else uniform(draw, 0.3, 3.0)
    b0[skull] = uniform(draw, 0, 0.25)
    if chance(draw, 0.3):  # one grey for all that is grey, as in simulated heads
        grey = PARTS.index("cortex")
        for name in ("thalamus", "striatum", "cerebellar grey"):
            for v in (b0, diffusivity, anisotropy, kurtosis):
                v[PARTS.index(name)] = v[grey]
    return _Contrast(
        b0,
        (everywhere * diffusivity).clamp(0, 3.3),
        anisotropy.clamp(0, 0.9),
        kurtosis.clamp(0, 1.4),
    )


def _arbitrary(draw: torch.Generator) -> _Contrast:
    n = len(PARTS)
    b0 = 0.1 + 3 * torch.rand(n, generator=draw) ** 1.5
    diffusivity = 3.2 * torch.rand(n, generator=draw)
    anisotropy = 0.7 * torch.rand(n, generator=draw) ** 1.5
    if chance(draw, 0.5):
        b0[PARTS.index("skull")] *= 0.1
    return _Contrast(b0, diffusivity, anisotropy, 0.8 * torch.rand(n, generator=draw))


def _signals(
    parts: torch.Tensor, fa: torch.Tensor, share: torch.Tensor, contrast: _Contrast, b: float,
    draw: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """B = 0 and weighted signal, anisotropy: mixed linearly in each voxel, with texture."""
    grid = (fa.shape[0], fa.shape[1], fa.shape[2])
    bd = b / 1000 * contrast.diffusivity
    # Cumulants up to where the expansion turns back.
    log = -bd + (bd * bd * contrast.kurtosis / 6).clamp(max=0.6 * bd)
    decayed = contrast.b0 * torch.exp(log)
    spread = contrast.anisotropy * (b / 1000) ** 0.7
    weights = torch.stack([contrast.b0, decayed, decayed * spread])
    if chance(draw, 0.5):
        # Deep grey matter and brainstem are mixtures of grey and white there, as the template has them.
        mixed = _as_mixture(parts, share, uniform(draw, 0.3, 1.0))
    else:
        mixed = parts
    images = torch.einsum("kp,pxyz->kxyz", weights, mixed)
    texture = uniform(draw, 0, 0.12) * waves(draw, grid, 4, 3) + uniform(draw, 0, 0.08) * waves(
        draw, grid, 2, 3
    )
    images = images * torch.exp(texture)
    b0, weighted, angular = images[0], images[1], images[2]
    anisotropy = angular / weighted.clamp(min=1e-3)
    tract = uniform(draw, 0, 1) if chance(draw, 0.8) else 0.0
    lines = sum(parts[PARTS.index(p)] for p in _DIRECTION)
    relative = (fa / 0.4).clamp(0.1, 2.2)
    anisotropy = anisotropy * (1 + tract * lines * (relative - 1)).clamp(min=0.05)
    return b0, weighted, anisotropy


def _as_mixture(parts: torch.Tensor, share: torch.Tensor, amount: float) -> torch.Tensor:
    out = parts.clone()
    for name in ("thalamus", "striatum", "pallidum", "brainstem", "cord"):
        moved = amount * parts[PARTS.index(name)]
        out[PARTS.index(name)] -= moved
        out[PARTS.index("white")] += moved * share
        out[PARTS.index("cortex")] += moved * (1 - share)
    return out


def _with_lesions(
    brain: torch.Tensor, b0: torch.Tensor, weighted: torch.Tensor, anisotropy: torch.Tensor,
    draw: torch.Generator,
) -> None:  # fmt: skip
    """Spots, masses and oedema in the brain, in place: the tissue's labels stay what they are."""
    voxels = torch.nonzero(brain > 0.9)
    if not len(voxels):
        return
    axes = torch.meshgrid(*[torch.arange(n) for n in brain.shape], indexing="ij")
    for _ in range(int(torch.randint(1, 5, (1,), generator=draw))):
        centre = voxels[int(torch.randint(len(voxels), (1,), generator=draw))]
        radius = uniform(draw, 1.0, 3.0) if chance(draw, 0.7) else uniform(draw, 3.0, 9.0)
        stretch = [uniform(draw, 0.6, 1.6) for _ in range(3)]
        away = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, stretch))
        spot = torch.sigmoid((radius - torch.as_tensor(away).sqrt()) / 0.6) * (brain > 0.5)
        bright, faster = uniform(draw, 0.4, 2.5), uniform(draw, -0.6, 1.2)
        b0.mul_(1 + spot * (bright - 1))
        weighted.mul_(1 + spot * (bright * math.exp(-faster) - 1))
        anisotropy.mul_(1 - uniform(draw, 0, 0.9) * spot)


def _field(parts: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """1 inside of what was scanned: all, without top or bottom, a slab, or a box inside of the brain."""
    grid = parts.shape[1:]
    out = torch.zeros(grid)
    limits = [[0, n] for n in grid]
    brain = torch.nonzero(parts[:INSIDE].sum(0) > 0.5)
    if len(brain):
        low, high = brain.min(0).values.tolist(), brain.max(0).values.tolist()
        kind = uniform(draw, 0, 1)
        if kind < 0.15:  # a tight field of view, often too small
            for axis in range(3):
                limits[axis] = [
                    max(0, int(low[axis] - uniform(draw, -4, 6))),
                    min(grid[axis], int(high[axis] + 1 + uniform(draw, -4, 6))),
                ]
        elif kind < 0.25:  # without top or bottom
            cut = int(uniform(draw, 0.1, 0.5) * (high[2] - low[2]))
            limits[2] = [low[2] + cut, grid[2]] if chance(draw, 0.5) else [0, high[2] - cut]
        elif kind < 0.33:  # a slab
            axis = int(torch.randint(3, (1,), generator=draw))
            thick = int(uniform(draw, 4, 20))
            start = int(uniform(draw, low[axis], max(high[axis] - thick, low[axis] + 1)))
            limits[axis] = [start, min(start + thick, grid[axis])]
        elif kind < 0.4:  # a crop
            centre = brain[int(torch.randint(len(brain), (1,), generator=draw))]
            for axis in range(3):
                half = uniform(draw, 6, 20)
                limits[axis] = [
                    max(0, int(centre[axis] - half)), min(grid[axis], int(centre[axis] + half))
                ]  # fmt: skip
    out[tuple(slice(a, max(b, a + 2)) for a, b in limits)] = 1
    return out


def _scanned(
    b0: torch.Tensor, weighted: torch.Tensor, anisotropy: torch.Tensor, bare: bool,
    draw: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """The images at the scan's own resolution with ghosts, ringing, noise and lost slices, back on STEP."""
    images = torch.stack([b0, weighted, anisotropy * weighted])
    grid = b0.shape
    if chance(draw, 0.5):
        size = [uniform(draw, 1.2, 4.0)] * 3
    else:
        size = [uniform(draw, 1.2, 3.5)] * 3
        size[2 if chance(draw, 0.8) else 0 if chance(draw, 0.5) else 1] = uniform(draw, 2.5, 6.5)
    coarse = [max(2, round(n * STEP / max(s, STEP))) for n, s in zip(grid, size)]
    blur = [max(0.0, 0.42 * math.sqrt(max(s * s - STEP * STEP, 0.0)) / STEP) for s in size]
    blur = [math.hypot(v, 0.4 * uniform(draw, 0, 1)) for v in blur]
    images = F.interpolate(_blurred(images, blur)[None], size=coarse, mode="trilinear")[0]
    images = _ghosts(images, draw)
    if chance(draw, 0.25):
        images = _rung(images, draw)
    level = float(images[0][images[0] > images[0].mean()].mean().clamp(min=1e-3))
    noise = level / math.exp(uniform(draw, math.log(6), math.log(80)))
    if bare and chance(draw, 0.4):
        noise = 0.0
    b0s = int(torch.randint(1, 5, (1,), generator=draw))
    count = int(math.exp(uniform(draw, math.log(3), math.log(90))))
    first = _noisy(images[0], noise, b0s, draw)
    second = _noisy(images[1], noise, count, draw)
    ratio = images[2] / images[1].clamp(min=1e-3)
    relative = noise / second.clamp(min=0.1 * level)
    error = torch.randn(ratio.shape, generator=draw) * relative / math.sqrt(max(count, 6))
    squared = ratio.square() + 2 * error * ratio
    squared += 1.6 * relative.square() / max(count, 6) * torch.randn(ratio.shape, generator=draw)
    made = torch.stack([first, second, squared.clamp(min=0).sqrt()])
    if chance(draw, 0.1):  # a slice that faded in some of the volumes
        lost = torch.rand(made.shape[-1], generator=draw) < uniform(draw, 0, 0.2)
        made[1] = made[1] * (1 - uniform(draw, 0.1, 0.7) * lost.float())
    back = F.interpolate(made[None], size=list(grid), mode="trilinear")[0]
    return back[0], back[1], back[2]


def _blurred(images: torch.Tensor, width: list[float]) -> torch.Tensor:
    for axis, w in enumerate(width):
        if w < 0.2:
            continue
        reach = max(1, math.ceil(2.5 * w))
        x = torch.arange(-reach, reach + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (x / w) ** 2)
        kernel = kernel / kernel.sum()
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(x)
        pad = [0, 0, 0]
        pad[axis] = reach
        images = F.conv3d(images[:, None], kernel.reshape(shape), padding=pad)[:, 0]
    return images


def _ghosts(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """A faint copy half a field of view away (N/2), or a short way (fat's chemical shift)."""
    axis = 2 if chance(draw, 0.8) else 1
    if chance(draw, 0.3):
        images = images + uniform(draw, 0, 0.1) * images.roll(images.shape[axis] // 2, axis)
    if chance(draw, 0.15):
        images = images + uniform(draw, 0, 0.25) * images.roll(int(uniform(draw, -9, 9)), axis)
    return images


def _rung(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Only the middle of k-space, in plane."""
    k = torch.fft.fft2(images, dim=(1, 2))
    x, y = (torch.fft.fftfreq(n).abs() <= uniform(draw, 0.3, 0.5) for n in images.shape[1:3])
    return torch.fft.ifft2(k * (x[:, None] & y)[..., None], dim=(1, 2)).real.clamp(min=0)


def _noisy(image: torch.Tensor, noise: float, count: int, draw: torch.Generator) -> torch.Tensor:
    """The mean of `count` magnitude images."""
    if noise == 0:
        return image
    # A magnitude's mean lies above the signal, most where there is none (Rayleigh: 1.25 sigma).
    floor = torch.sqrt(image.square() + 1.57 * noise * noise)
    return (floor + noise / math.sqrt(count) * torch.randn(image.shape, generator=draw)).clamp(0)


def _seen(
    b0: torch.Tensor, weighted: torch.Tensor, b: float, anisotropy: torch.Tensor,
    field: torch.Tensor, draw: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """The channels, some of them missing, each a little brighter or darker than its scale says."""
    missing = uniform(draw, 0, 1)
    seen = channels(
        b0, None if missing < 0.05 else weighted, b, None if missing < 0.12 else anisotropy, field
    )
    if 0.12 <= missing < 0.15:
        seen[0] = 0
    gain = torch.exp(0.12 * torch.randn(4, generator=draw))
    seen[:4] *= gain[:, None, None, None]
    return seen
