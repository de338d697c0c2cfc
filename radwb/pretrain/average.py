"""A moving average of the weights, which often does better than the last ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Average:
    """An exponential moving average of a network's weights and statistics.

    Its decay at step t is at most (1 + t) / (10 + t): the bound lets go of the random
    start in runs that are short for their decay.

    Raises:
        ValueError: the decay isn't between 0 and 1.
    """

    def __init__(self, net: torch.nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"expected ema between 0 and 1, got {decay}. Try 0.999.")
        self.decay = decay
        self.state = _copied(net)

    @torch.no_grad()
    def update(self, net: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)

    @contextmanager
    def shown(self, net: torch.nn.Module) -> Iterator[None]:
        """The network with the averaged weights."""
        trained = _copied(net)
        net.load_state_dict(self.state)
        try:
            yield
        finally:
            net.load_state_dict(trained)


def _copied(net):
    return {name: value.clone() for name, value in net.state_dict().items()}
