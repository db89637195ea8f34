"""The endless stream of scans of synthetic heads, for the tissue network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from fornix.training.data.farm import Farm
from fornix.training.data.head_images import HeadSample, random_scan
from fornix.training.data.head_shapes import HeadLabels, random_head
from fornix.training.data.head_template import head_template

#: Boxes of voxels that the network learns from: a part of the brain, the brain, or the head; and shares.
_BOXES, _SHARES = ((48, 64, 48), (64, 80, 64), (80, 96, 80)), (0.1, 0.65, 0.25)
#: Scans of a head that a process makes together; how many heads' scans wait beside each other to be shown,
#: and how often each scan is, as a GPU learns faster than a CPU scans.
_LOT, _BESIDE, _SHOWN = 12, 24, 2


class HeadStream:
    """Endless scans of a bank of heads, which are renewed one by one.

    Args:
        anatomy: Folder of the MNI atlas, see `head_template`.
        bank: Heads kept at a time.
        seed: Of everything.
        device: Where scans are wanted.
        workers: Processes that make heads and their scans ahead; 0 makes them when they are needed.
    """

    def __init__(
        self, anatomy: Path, bank: int, seed: int, device: torch.device, workers: int = 0
    ) -> None:
        self._template, self._bank, self._device = head_template(anatomy), bank, device
        self._draw = torch.Generator().manual_seed(seed)
        self._heads: list[HeadLabels] = []
        self._waiting: list[tuple[HeadSample, int]] = []
        self._farm = Farm(partial(_scan_lot, anatomy), 1000 * (seed + 1), workers)
        self._ahead = workers > 0

    def renew(self) -> None:
        """Another head in place of the oldest; processes renew theirs with every lot."""
        if not self._ahead:
            made = random_head(self._template, self._draw)
            self._heads = [*self._heads[-(self._bank - 1) :], made] if self._bank > 1 else [made]

    def close(self) -> None:
        """End the processes."""
        self._farm.close()

    def sample(self) -> HeadSample:
        """The next scan."""
        made = self._next_ahead() if self._ahead else self._next()
        parts = (getattr(made, n).to(self._device) for n in ("seen", "target", "left"))
        return HeadSample(*(p.float() for p in parts))

    def _next(self) -> HeadSample:
        if len(self._heads) < self._bank:
            self.renew()
        return _scan(self._heads[self._below(len(self._heads))], self._draw)

    def _next_ahead(self) -> HeadSample:
        """One of those that wait; the next lot joins them where it is made."""
        few = len(self._waiting) < _LOT * _BESIDE // 2
        if few and (self._farm.ready() or len(self._waiting) < _LOT):
            self._waiting += [(scan, _SHOWN) for scan in self._farm.next()]
        at = self._below(len(self._waiting))
        scan, times = self._waiting[at]
        if times > 1:
            self._waiting[at] = scan, times - 1
        else:
            self._waiting[at] = self._waiting[-1]
            self._waiting.pop()
        return scan

    def _below(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self._draw))


def _scan(head: HeadLabels, draw: torch.Generator) -> HeadSample:
    box = int(torch.multinomial(torch.tensor(_SHARES), 1, generator=draw))
    return random_scan(head, draw, _BOXES[box])


def _scan_lot(anatomy: Path, seed: int) -> list[HeadSample]:
    """Scans of one head in half precision; what a process makes ahead."""
    draw = torch.Generator().manual_seed(7_000_003 * seed + 41)
    head = random_head(head_template(anatomy), draw)
    scans = [_scan(head, draw) for _ in range(_LOT)]
    return [HeadSample(s.seen.half(), s.target.half(), s.left.half()) for s in scans]
