"""Claims about attention in training: three plain products give the numbers of torch's
own layer.
"""

import pytest
import torch
from torch import nn

from radwb.models.attention import explicit_attention, explicit_forward

B, T, W, H = 3, 7, 32, 4
CAUSAL = torch.full((T, T), -torch.inf).triu(1)
HIDDEN = torch.zeros(B, T, dtype=torch.bool)
HIDDEN[:, -2:] = True


def layer(**options):
    torch.manual_seed(0)
    return nn.MultiheadAttention(W, H, batch_first=True, **options).double()


def both(layer, net_inputs, **options):
    """Output and gradients of a layer as torch computes it, and within `explicit_attention`."""
    out = []
    for within in (False, True):
        inputs = [x.clone().requires_grad_() for x in net_inputs]
        q, k = inputs if len(inputs) == 2 else inputs * 2
        layer.zero_grad()
        if within:
            with explicit_attention(layer):
                y = layer(q, k, k, **options)[0]
        else:
            y = layer(q, k, k, **options)[0]
        y.square().sum().backward()
        out.append(
            [y, *(x.grad for x in inputs), *(p.grad for p in layer.parameters())]
        )
    return out


@pytest.mark.parametrize("mask", [None, CAUSAL, CAUSAL.expand(B * H, T, T)])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_and_its_gradients_are_those_of_torch(mask, bias):
    x = torch.randn(B, T, W, dtype=torch.float64)
    want, got = both(layer(bias=bias), [x], need_weights=False, attn_mask=mask)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_some_tokens_ask_and_all_answer():
    asks, x = (
        torch.randn(B, 2, W, dtype=torch.float64),
        torch.randn(B, T, W, dtype=torch.float64),
    )
    want, got = both(
        layer(),
        [asks, x],
        need_weights=False,
        attn_mask=CAUSAL[3:5].expand(B * H, 2, T),
    )
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"need_weights": True}, {"key_padding_mask": HIDDEN}, {"attn_mask": CAUSAL < 0}],
)
def test_what_is_asked_for_besides_is_torchs_own(options):
    options = {"need_weights": False} | options
    want, got = both(layer(), [torch.randn(B, T, W, dtype=torch.float64)], **options)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_dropout_is_torchs_own():
    net, x = layer(dropout=0.5), torch.randn(B, T, W, dtype=torch.float64)
    torch.manual_seed(1)
    want = net(x, x, x, need_weights=False)[0]
    torch.manual_seed(1)
    with explicit_attention(net):
        torch.testing.assert_close(
            net(x, x, x, need_weights=False)[0], want, rtol=0, atol=1e-12
        )


def test_a_network_is_left_as_it_was_also_by_an_error():
    net, x = nn.Sequential(layer()), torch.zeros(1, 2, W + 1, dtype=torch.float64)
    with explicit_attention(net):
        assert net[0].forward.__func__ is explicit_forward
    with pytest.raises(RuntimeError, match="shape"), explicit_attention(net):
        net[0](x, x, x, need_weights=False)  # too wide
    assert "forward" not in vars(net[0])
