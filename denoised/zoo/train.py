"""The training loop of the zoo: resumable to the bit, with averaged weights and saved progress.

The whole state (weights, averaged weights, optimizer moments, losses) is one safetensors file, written
whole or not at all every few minutes, and when the process is asked to stop. Step k draws all its
randomness from (seed, k), so a resumed run equals an unbroken one bit for bit on the same machine with
the same number of threads.
"""

from __future__ import annotations

import copy
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from denoised.diffusion.training import update_ema
from denoised.environment import cpu_name
from denoised.errors import DenoisedError, Exit
from denoised.files import write_whole
from denoised.language import say

SAVE_EVERY = 180.0  # seconds


class Recipe(Protocol):
    """A module of `denoised.zoo.recipes`: one checkpoint, from random weights to its folder in zoo/."""

    NAME: str
    # A dataclass with, beside the recipe's own fields: steps, batch, ema, gradient_clip and seed.
    Config: type[Any]

    def build(self, config: Any) -> nn.Module:
        """The untrained network; what it draws from torch's global generator follows from the seed."""

    def learning_rate(self, config: Any, step: int) -> float:
        """The learning rate of one step."""

    def loss(self, network: Any, config: Any, step: int) -> Tensor:
        """The training loss at `step`, a scalar. Everything random in it follows from (seed, step)."""

    def preview(self, network: Any, config: Any) -> tuple[Tensor, int]:
        """Pictures (n, 3, h, w) that show how far training has come, and how many stand in a row."""

    def measure(self, network: Any, config: Any) -> dict[str, float]:
        """A few cheap measurements on held-out data, for the curve of quality against training."""

    def publish(self, training: Training, folder: Path, report: Callable[[str], None]) -> None:
        """Write the finished checkpoint with its card and its measured quality into `folder`."""


@dataclass(frozen=True)
class Progress:
    """What a training run reports after each step."""

    step: int
    steps: int
    loss: float  # averaged over the last hundred steps
    seconds: float  # training time so far, over all sittings


class Training:
    """A training run in memory: network, averaged network, optimizer, losses, curve and time spent."""

    def __init__(self, recipe: Recipe, config: Any) -> None:
        self.recipe, self.config = recipe, config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = recipe.build(config)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad], betas=(0.9, 0.99), fused=True
        )
        self.losses: list[float] = []
        self.curve: list[dict[str, float]] = []  # rows of `recipe.measure`, with step and hours
        self.seconds = 0.0
        self.hardware: list[str] = []  # what it was trained on, each once

    @property
    def step(self) -> int:
        return len(self.losses)

    def advance(self) -> None:
        """One optimizer step."""
        config = self.config
        self.optimizer.param_groups[0]["lr"] = self.recipe.learning_rate(config, self.step)
        loss = self.recipe.loss(self.network.train(), config, self.step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        # A short memory at first: an average that still holds the random start is worth nothing.
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        update_ema(self.average.parameters(), self.network.parameters(), decay)
        for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(now)  # a batch norm's statistics are averages already
        self.losses.append(loss.item())

    def measure(self) -> dict[str, float]:
        """Measure the averaged network, and add the row to the curve."""
        row = {
            "step": self.step,
            "hours": round(self.seconds / 3600, 3),
            **self.recipe.measure(self.average.eval(), self.config),
        }
        self.curve.append(row)
        return row

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, by name."""
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{name}.{key}"] = value
        state["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        return state

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the state that `tensors` returned."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.average.load_state_dict(part("average."))
        for name, parameter in self.network.named_parameters():
            if moments := part(f"optimizer.{name}."):
                self.optimizer.state[parameter] = moments
        self.losses = tensors["losses"].tolist()


def train(
    recipe: Recipe,
    config: Any,
    folder: Path,
    report: Callable[[Progress, Training], None],
    *,
    until: int | None = None,
) -> Training:
    """Train to `config.steps`, or to step `until`, keeping the state in `folder`/state.safetensors.

    A state found there is continued. Raises DenoisedError when it belongs to another configuration, and,
    with code RETRY, after SIGTERM; KeyboardInterrupt after Ctrl-C. In both cases the state is saved first.
    """
    training = Training(recipe, config)
    path = folder / "state.safetensors"
    if path.exists():
        _resume(training, path)
    else:
        _save(training, path)  # refuse an unwritable folder before, not after, the first minutes of work
    threads = torch.get_num_threads()
    here = f"{threads} CPU {'thread' if threads == 1 else 'threads'}, {cpu_name()}"
    if here not in training.hardware and training.step < (until or config.steps):
        training.hardware.append(here)
    last_save = started = time.monotonic()
    before = training.seconds
    with _stop_signals() as stop:
        while training.step < (until or config.steps):
            training.advance()
            now = time.monotonic()
            training.seconds = before + now - started
            recent = training.losses[-100:]
            report(
                Progress(training.step, config.steps, sum(recent) / len(recent), training.seconds), training
            )
            if stop or now - last_save > SAVE_EVERY:
                _save(training, path)
                last_save = now
            if stop == [signal.SIGINT]:
                raise KeyboardInterrupt
            if stop:
                raise DenoisedError(
                    say(
                        ko=f"{config.steps:,}스텝 가운데 {training.step:,}에서 멈췄다. 모두 {folder}에 저장했다",
                        en=f"stopped at step {training.step:,} of {config.steps:,}; "
                        f"everything is saved in {folder}",
                    ),
                    help=say(
                        ko="같은 명령을 다시 실행하면 거기서 이어 간다",
                        en="run the same command again to go on from there",
                    ),
                    code=Exit.RETRY,
                )
    _save(training, path)
    return training


def _save(training: Training, path: Path) -> None:
    metadata = {
        "config": json.dumps(asdict(training.config)),
        "seconds": repr(training.seconds),
        "curve": json.dumps(training.curve),
        "hardware": json.dumps(training.hardware),
    }
    write_whole(path, safetensors.torch.save(training.tensors(), metadata))


def _resume(training: Training, path: Path) -> None:
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, Any] = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise DenoisedError(
            say(ko=f"{path}가 깨졌다: {error}", en=f"{path} is damaged: {error}"),
            help=say(ko=f"{path.parent}를 지우고 새로 시작한다", en=f"remove {path.parent} and begin anew"),
            code=Exit.INTEGRITY,
        ) from error
    found, wanted = json.loads(metadata["config"]), asdict(training.config)
    different = [k for k in wanted if found.get(k) != wanted[k]]
    if different:
        was = ", ".join(f"{k}={found.get(k)}" for k in different)
        raise DenoisedError(
            say(
                ko=f"{path}는 다른 설정으로 시작한 것이다 ({was})",
                en=f"{path} was started with another configuration ({was})",
            ),
            help=say(
                ko=f"이어 가려면 같은 값을 주고, 새로 시작하려면 {path.parent}를 지운다",
                en=f"give the same values to go on with it, or remove {path.parent} to begin anew",
            ),
        )
    training.restore(tensors)
    training.seconds = float(metadata["seconds"])
    training.curve = json.loads(metadata["curve"])
    training.hardware = json.loads(metadata["hardware"])


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them, so that a step is never cut in half."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    previous = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
