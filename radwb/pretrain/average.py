"""A moving average of the weights, which often does better than the last ones."""

from contextlib import contextmanager

import torch


class Average:
    """An exponential moving average of a network's weights and statistics; at step t of
    at most (1 + t) / (10 + t).

    The bound lets go of the random start in runs that are short for their decay.
    """

    def __init__(self, net: torch.nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"expected ema between 0 and 1, got {decay}. Try 0.999.")
        self.decay, self.state = (
            decay,
            {k: v.detach().clone() for k, v in net.state_dict().items()},
        )

    @torch.no_grad()
    def update(self, net: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for k, v in net.state_dict().items():
            self.state[k].lerp_(v, 1 - decay) if v.is_floating_point() else self.state[
                k
            ].copy_(v)

    @contextmanager
    def shown(self, net: torch.nn.Module):
        """The network with the averaged weights."""
        now = {k: v.detach().clone() for k, v in net.state_dict().items()}
        net.load_state_dict(self.state)
        try:
            yield
        finally:
            net.load_state_dict(now)
