"""Attention of a MONAI ViT in 3-D, followed back to its patches a few rows at a time.

No (heads, T, T) of a layer is ever kept. With q, k, v and, for relevance, the gradient
G of the score by the attention's output, softmax(q k') and its gradient G v' are made
for a few rows at a time and summed up at once: 4,096 tokens x 12 layers x 12 heads take
megabytes instead of 9.7 GB, and the numbers are the same.
"""

from collections.abc import Callable

import numpy as np
import torch

from radwb.attend.threads import of_this_thread
from radwb.attend.tokens import attention_weights
from radwb.attend.tower import EXACT, HALF, as_it_was, require_equal
from radwb.attend.volumes.net import quiet
from radwb.attend.volumes.trace import as_leaf, traced
from radwb.models.net3d import Net3d

ROWS = 256  # of a layer's attention made at a time


def row_flow(
    net: Net3d,
    run: Callable,
    score: Callable | None,
    method: str,
    layer: int,
    head: int | None = None,
) -> torch.Tensor:
    """(d, h, w): what the read-out of a ViT got from each patch, back to `layer`.

    The read-out is the class token, or the mean of the patches where there is none.

    Args:
        run: () -> the network's output.
        score: output -> the number to differentiate, for relevance; else None.
        method: "attention" of one layer, "rollout" or "relevance".
        head: of "attention"; None = mean.
    Raises:
        RuntimeError: softmax(QK) V or the output isn't what the network computed.
    """
    # MONAI's own einsum and softmax; under the fused attention no (T, T) is kept for
    # the way back
    unfused = as_it_was(net.net, {"use_flash_attention": False})
    layers = [_Layer(block.attn) for block in net.net.blocks]
    with quiet(net):
        with torch.no_grad(), unfused:
            plain = run()
        traced(layers, run, plain, score)
    patches = int(np.prod(net.grid))
    tokens = layers[0].out.shape[2]
    read = torch.zeros(1, tokens).to(layers[0].out)
    if tokens > patches:
        read[0, 0] = 1
    else:
        read[0] = 1 / tokens
    if method == "attention":
        flow = layers[layer].times(read, head)
    else:
        flow = _followed(read, layers[layer:], method)
    return flow[0, -patches:].reshape(net.grid)


def _followed(read, layers, method):
    """(1, T): the read-out's row, from the last layer to the first of `layers`."""
    flow = read
    share = 1.0 if method == "relevance" else 0.5
    for layer in reversed(layers):
        flow = share * flow + share * layer.times(flow)
    return flow - read if method == "relevance" else flow


class _Layer:
    """Of one block's attention: q, k, v (heads, T, d) each, what it gave, gradient.

    `out` is softmax(q k') v of all heads, (1, heads, T, d); `gradient` the score's by
    that, the same shape.
    """

    def __init__(self, attn):
        self.attn = attn
        self.qkv = []
        self.out = None
        self.gradient = None

    def hooks(self, graph):
        self.graph = graph
        split = of_this_thread(self.split)
        join = of_this_thread(self.join)
        yield self.attn.input_rearrange.register_forward_hook(split)
        yield self.attn.out_rearrange.register_forward_pre_hook(join)

    def split(self, _, __, out):
        if out.ndim == 5:  # (3, 1, heads, T, d)
            self.qkv.extend(out.detach()[:, 0])
        else:  # called once for each
            self.qkv.append(out.detach()[0])

    def join(self, _, args):
        self.out = as_leaf(args[0], self.graph)
        return (self.out,)

    def times(self, flow, head=None):
        """(1, T) times the mean over heads of A, or of max(A * dscore/dA, 0).

        A is made, and proved against `out`, a few rows at a time.
        """
        q, k, v = self.qkv
        near = EXACT.get(v.dtype, HALF)
        total = torch.zeros_like(flow)
        for start in range(0, q.shape[1], ROWS):
            rows = slice(start, start + ROWS)
            weights = attention_weights(q[:, rows], k, scale=self.attn.scale)
            weights = weights.to(v.dtype)  # (heads, rows, T)
            require_equal(weights @ v, self.out[0, :, rows], near, "softmax(QK) V")
            if self.gradient is not None:
                by_weights = self.gradient[0, :, rows] @ v.mT
                weights = (weights * by_weights).clamp(min=0)
            mixed = weights.mean(0) if head is None else weights[head]
            total += flow[:, rows] @ mixed
        return total
