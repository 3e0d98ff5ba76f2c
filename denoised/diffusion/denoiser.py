"""The one interface that samplers and methods are written against.

    prediction = denoiser(x, t, condition)
    prediction.eps, prediction.x0, prediction.v, prediction.score

whatever the network itself predicts. The denoiser counts what it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from denoised.diffusion.schedule import Schedule

Parameterisation = Literal["epsilon", "v_prediction", "sample"]
# (x, timesteps (n,), condition or None) -> the network's raw output, of the shape of x. A condition is classes
# (n,) or text states (n, length, width).
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Prediction:
    """A network's belief about x_t, in every parameterisation.

    `x0` and `eps` have the shape of x_t; `v` = a eps - s x0 (Salimans & Ho 2022, arXiv:2202.00512, App. D)
    and `score` = -eps / s (Song et al. 2021, arXiv:2011.13456) follow from them, with a = sqrt(alpha_bar_t)
    and s = sqrt(1 - alpha_bar_t), numbers or tensors that broadcast. `extra` is what a network says in channels
    beyond those of x_t, such as a learned variance; None for one that has no more.

    `eps` may be given as a function, called when it is first asked for: between two calls of a small network
    every operation counts. `x_t` spares `clip` from putting it together again.
    """

    __slots__ = ("_eps", "_x_t", "a", "extra", "s", "x0")

    def __init__(
        self,
        x0: Tensor,
        eps: Tensor | Callable[[], Tensor],
        a: float | Tensor,
        s: float | Tensor,
        extra: Tensor | None = None,
        *,
        x_t: Tensor | None = None,
    ) -> None:
        self.x0, self.a, self.s, self.extra = x0, a, s, extra
        self._eps, self._x_t = eps, x_t

    @property
    def eps(self) -> Tensor:
        if not isinstance(self._eps, Tensor):
            self._eps = self._eps()
        return self._eps

    def combine(self, of_x0: float, of_eps: float) -> Tensor:
        """of_x0 x0 + of_eps eps, (n, …): what a step of most samplers is, here without putting eps together first."""
        if self._x_t is None or isinstance(self._eps, Tensor):
            return mixed(of_x0, self.x0, of_eps, self.eps)
        of_x_t = of_eps / self.s
        return mixed(of_x_t, self._x_t, of_x0 - of_x_t * self.a, self.x0)

    @property
    def v(self) -> Tensor:
        return self.a * self.eps - self.s * self.x0

    @property
    def score(self) -> Tensor:
        return -self.eps / self.s

    def clip(self, low: float = -1.0, high: float = 1.0) -> Prediction:
        """The prediction with x0 clipped to the data's range and eps made to agree with it.

        eps is recomputed from x_t = a x0 + s eps, so that one pair describes one x_t.
        """
        x_t = mixed(self.a, self.x0, self.s, self.eps) if self._x_t is None else self._x_t
        x0, a, s = self.x0.clamp(low, high), self.a, self.s
        return Prediction(x0, lambda: (x_t - a * x0) / s, a, s, self.extra, x_t=x_t)


def mixed(p: float | Tensor, x: Tensor, q: float | Tensor, y: Tensor) -> Tensor:
    """p x + q y for x and y of one shape; where q is a plain number in two operations instead of three."""
    return (p * x).add_(y, alpha=q) if isinstance(q, float) else p * x + q * y


def predict(
    output: Tensor,
    x: Tensor,
    a: float | Tensor,
    s: float | Tensor,
    kind: Parameterisation,
    extra: Tensor | None = None,
) -> Prediction:
    """Convert a raw network output at x_t = a x0 + s eps into a `Prediction`."""
    match kind:
        case "epsilon":
            return Prediction((x - s * output) / a, output, a, s, extra, x_t=x)
        case "v_prediction":
            return Prediction(mixed(a, x, -s, output), lambda: mixed(s, x, a, output), a, s, extra, x_t=x)
        case "sample":
            return Prediction(output, lambda: (x - a * output) / s, a, s, extra, x_t=x)
        case other:
            raise ValueError(f"prediction type {other!r} is not known; use epsilon, v_prediction or sample")


@dataclass
class Denoiser:
    """A trained network together with the noise schedule it was trained for.

    `calls` counts network evaluations of a batch, `samples` counts rows evaluated. `passes` is how many rows
    one picture takes: 2 for a network that is guided in one batch (`denoised.diffusion.guidance`).
    """

    network: Network
    schedule: Schedule
    parameterisation: Parameterisation = "epsilon"
    passes: int = 1
    calls: int = field(default=0, init=False)
    samples: int = field(default=0, init=False)

    def __call__(self, x: Tensor, t: int, condition: Tensor | None = None) -> Prediction:
        """Predict at x_t of shape (n, …), all at timestep t in 0 … T-1; `condition` is (n, …) or None."""
        a, s = self.schedule.level(t)
        return self._predict(
            x, torch.full((x.shape[0],), t, device=x.device, dtype=torch.long), a, s, condition
        )

    def between(
        self,
        x: Tensor,
        t: float | Tensor,
        a: float | Tensor,
        s: float | Tensor,
        condition: Tensor | None = None,
    ) -> Prediction:
        """Predict at x = a x0 + s eps of shape (n, …), telling the network a real-valued timestep t.

        Networks that embed t by sines and cosines take any t, though they were trained on whole ones. Which t
        belongs to a and s is for `denoised.diffusion.continuous` to say. Each picture may have a level of its own:
        t is then (n,), a and s are (n, 1, …).
        """
        steps = torch.as_tensor(t, dtype=torch.float32, device=x.device).expand(len(x))
        a, s = (each.to(x) if isinstance(each, Tensor) else each for each in (a, s))
        return self._predict(x, steps, a, s, condition)

    def _predict(
        self, x: Tensor, steps: Tensor, a: float | Tensor, s: float | Tensor, condition: Tensor | None
    ) -> Prediction:
        self.calls += 1
        self.samples += x.shape[0] * self.passes
        if torch.is_inference_mode_enabled():  # entering it again costs a tenth of a step on a small picture
            output = self.network(x, steps, condition)
        else:
            with torch.inference_mode():
                output = self.network(x, steps, condition)
        if output.shape == x.shape:
            return predict(output, x, a, s, self.parameterisation)
        output, extra = output[:, : x.shape[1]], output[:, x.shape[1] :]
        return predict(output, x, a, s, self.parameterisation, extra)
