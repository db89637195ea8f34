"""The trainer: a stream in the background, checkpoints that survive a kill, a log and a plot."""

from __future__ import annotations

import csv
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fornix.core.compute import pick_device
from fornix.core.errors import FornixError
from fornix.training.recipes import Recipe
from fornix.training.tasks.microstructure import Task, workers_for

_EMA = 0.999
_LOG_EVERY = 50


@dataclass(frozen=True)
class Trained:
    """A trained network: the averaged weights, and how long it took.

    Attributes:
        seconds: Of all runs together.
        rate: Examples per second of the last run (voxels that the stream made).
        device: where.
    """

    model: nn.Module
    steps: int
    seconds: float
    rate: float
    device: str


def train(
    recipe: Recipe,
    task: Task,
    folder: str | Path,
    device: str = "auto",
    devices: int = 1,
    tell: Callable[[str], None] = print,
    checkpoint_every: float = 60.0,
    begin: dict[str, torch.Tensor] | None = None,
) -> Trained:
    """Train a network from nothing, or on from the checkpoint in `folder`.

    Args:
        recipe: How the network is trained.
        task: Its model, data and loss.
        folder: Receives checkpoint.pt, log.csv and log.png.
        device: `auto`, `cpu` or `cuda`.
        devices: GPUs to use together.
        tell: Is given each line of progress.
        checkpoint_every: seconds.
        begin: Weights to start with where there is no checkpoint. The average of the weights over the
            last steps is what is kept.

    Raises:
        FornixError: Where lightning-fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise FornixError("training needs lightning-fabric: pip install 'fornix[train]'") from None
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    where = pick_device(device)
    fabric = Fabric(accelerator=where.type, devices=devices)
    fabric.launch()
    where = fabric.device
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn from torch's own generator
        torch.manual_seed(recipe.seed)
        plain = task.model()
    if begin is not None:
        _begin(plain, begin, tell)
    count = sum(p.numel() for p in plain.parameters())
    optimiser = torch.optim.AdamW(plain.parameters(), lr=recipe.rate, weight_decay=1e-4)
    model, optimiser = fabric.setup(plain, optimiser)
    average = {k: v.detach().clone() for k, v in plain.state_dict().items()}
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
    start, spent, before = _resume(out, plain, optimiser, average, where)
    name = before if start >= recipe.steps and before else name
    tell(f"{recipe.name}: {count:,} parameters, from step {start} of {recipe.steps}, on {where}")

    batches = _background(
        recipe, task, where, recipe.seed + 7919 * start + 101 * fabric.global_rank
    )
    rows: list[dict[str, float]] = []
    began = saved = time.perf_counter()
    voxels = 0
    with _OneThread() as threads:
        for step in range(start, recipe.steps):
            made = next(batches)
            threads.keep()
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * _schedule(step, recipe.steps)
            total, parts = task.loss(model, made)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(total)
            fabric.clip_gradients(model, optimiser, max_norm=1.0)
            optimiser.step()
            _follow(average, plain, min(_EMA, (1 + step) / (10 + step)))
            voxels += _count(made)
            rows.append({"step": step, "loss": float(total.detach()), **parts})
            now = time.perf_counter()
            if len(rows) == _LOG_EVERY or step + 1 == recipe.steps:
                if fabric.is_global_zero:
                    _log(out / "log.csv", rows, voxels / (now - began), tell, recipe.steps)
                rows = []
            if (now - saved > checkpoint_every or step + 1 == recipe.steps) and (
                fabric.is_global_zero
            ):
                _save(out, plain, optimiser, average, step + 1, spent + now - began, name)
                saved = now
    batches.close()
    seconds = spent + time.perf_counter() - began
    if fabric.is_global_zero and (out / "log.csv").exists():
        _plot(out / "log.csv", out / "log.png")
    plain.load_state_dict(average)
    rate = voxels / max(time.perf_counter() - began, 1e-9)
    return Trained(plain.cpu().eval(), recipe.steps, seconds, rate, name)


def _begin(model: nn.Module, state: dict[str, torch.Tensor], tell: Callable[[str], None]) -> None:
    """Take over the weights that fit; say which parts begin anew."""
    own = model.state_dict()
    fitting = {k: _grown(own[k], v) for k, v in state.items() if k in own and _fits(own[k], v)}
    anew = sorted({k.rpartition(".")[0] for k in own if k not in fitting})
    model.load_state_dict(own | fitting)
    if anew:
        tell(f"begun anew, since the given weights do not hold them: {', '.join(anew)}")


def _fits(own: torch.Tensor, given: torch.Tensor) -> bool:
    """Whether the given weights are the own ones or their first rows and columns."""
    return own.ndim == given.ndim and all(a >= b for a, b in zip(own.shape, given.shape))


def _grown(own: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """The given weights with new rows as they begin, and nothing of new columns."""
    if own.shape == given.shape:
        return given
    made = own.clone()
    if own.ndim == 2:
        made[: len(given)] = 0
    made[tuple(slice(n) for n in given.shape)] = given
    return made


def _schedule(step: int, steps: int) -> float:
    """Share of the highest learning rate: a short rise, then half a cosine down."""
    warm = min(300, steps // 10 + 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _follow(average: dict[str, torch.Tensor], model: nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        average[name].lerp_(value.detach(), 1 - decay)


def _background(
    recipe: Recipe, task: Task, device: torch.device, seed: int
) -> Generator[Any, None, None]:
    """Prepared batches from threads that simulate beside the training."""
    workers = workers_for(recipe, device)
    ready: queue.Queue[Any] = queue.Queue(maxsize=2 * workers)
    stop = threading.Event()
    streams: list[Any] = []

    def work(worker: int) -> None:
        try:
            with _OneThread() as threads:
                stream = task.stream(seed + 31 * worker, device)
                streams.append(stream)
                made = 0
                while not stop.is_set():
                    threads.keep()
                    item = task.prepare(stream)
                    made += 1
                    if made % max(recipe.renew // workers, 1) == 0:
                        stream.renew()
                    while not stop.is_set():
                        try:
                            ready.put(item, timeout=0.5)
                            break
                        except queue.Full:
                            continue
        except BaseException as error:  # told by the training thread, which waits for a batch
            ready.put(error)

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in range(workers)]
    for thread in threads:
        thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
        for stream in streams:
            if hasattr(stream, "close"):
                stream.close()


class _OneThread:
    """One core for this thread's work: simulation and training each have their own."""

    def __enter__(self) -> _OneThread:
        import numba

        self._before = torch.get_num_threads()
        torch.set_num_threads(1)
        numba.set_num_threads(1)
        return self

    def keep(self) -> None:
        """Numba's first parallel loop, in whichever thread, sets torch's number for all of them."""
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import numba

        torch.set_num_threads(self._before)
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def _count(made: Any) -> int:
    """Voxels of what a task prepared."""
    batch = made[0] if isinstance(made, tuple) else made.batch
    return len(batch.voxels)


def _save(
    out: Path,
    model: nn.Module,
    optimiser: Any,
    average: dict[str, torch.Tensor],
    step: int,
    seconds: float,
    where: str,
) -> None:
    temporary = out / "checkpoint.tmp"
    torch.save(
        {
            "model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict(),
            "step": step, "seconds": seconds, "where": where,
        },
        temporary,
    )  # fmt: skip
    os.replace(temporary, out / "checkpoint.pt")


def _resume(
    out: Path, model: nn.Module, optimiser: Any, average: dict[str, torch.Tensor],
    device: torch.device,
) -> tuple[int, float, str]:  # fmt: skip
    path = out / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0, ""
    kept = torch.load(path, map_location=device, weights_only=True)
    try:
        model.load_state_dict(kept["model"])
    except RuntimeError:
        raise FornixError(
            f"{path} is of another network; remove the folder to start anew"
        ) from None
    optimiser.load_state_dict(kept["optimiser"])
    for name, value in kept["average"].items():
        average[name].copy_(value)
    return int(kept["step"]), float(kept["seconds"]), str(kept.get("where", ""))


def _log(
    path: Path, rows: list[dict[str, float]], rate: float, tell: Callable[[str], None], steps: int
) -> None:
    mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "step"}
    row = {"step": int(rows[-1]["step"]) + 1, **mean, "voxels_per_s": rate}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" for k, v in row.items()})
    tell(f"step {row['step']}/{steps}  " + "  ".join(
        f"{k} {v:.4f}" for k, v in mean.items()) + f"  {rate:,.0f} voxels/s")  # fmt: skip


def _plot(log: Path, out: Path) -> None:
    from matplotlib.figure import Figure

    with log.open() as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if n not in ("step", "voxels_per_s")]
    figure = Figure(figsize=(3.2 * len(names), 3), layout="constrained")
    for ax, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names):
        ax.plot([float(r["step"]) for r in rows], [float(r[name]) for r in rows], lw=0.8)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("step", fontsize=8)
    figure.savefig(out, dpi=120)
