"""Claims about attention in training: three products give torch's own numbers."""

import pytest
import torch
from torch import nn

from radwb.models.attention import explicit_attention, explicit_forward

B = 3
T = 7
W = 32
H = 4
CAUSAL = torch.full((T, T), -torch.inf).triu(1)
HIDDEN = torch.zeros(B, T, dtype=torch.bool)
HIDDEN[:, -2:] = True


def layer(**options):
    torch.manual_seed(0)
    return nn.MultiheadAttention(W, H, batch_first=True, **options).double()


def both(layer, net_inputs, **options):
    """Output and gradients of a layer by torch, and within `explicit_attention`."""
    by_torch = with_gradients(layer, net_inputs, options)
    with explicit_attention(layer):
        return by_torch, with_gradients(layer, net_inputs, options)


def with_gradients(layer, net_inputs, options):
    inputs = [x.clone().requires_grad_() for x in net_inputs]
    query, key = inputs if len(inputs) == 2 else inputs * 2
    layer.zero_grad()
    y = layer(query, key, key, **options)[0]
    y.square().sum().backward()
    parameters = [p.grad for p in layer.parameters()]
    return [y, *(x.grad for x in inputs), *parameters]


@pytest.mark.parametrize("mask", [None, CAUSAL, CAUSAL.expand(B * H, T, T)])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_and_its_gradients_are_those_of_torch(mask, bias):
    x = torch.randn(B, T, W, dtype=torch.float64)
    want, got = both(layer(bias=bias), [x], need_weights=False, attn_mask=mask)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_some_tokens_are_queries_and_all_are_keys():
    query = torch.randn(B, 2, W, dtype=torch.float64)
    x = torch.randn(B, T, W, dtype=torch.float64)
    mask = CAUSAL[3:5].expand(B * H, 2, T)
    want, got = both(layer(), [query, x], need_weights=False, attn_mask=mask)
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
    net = layer(dropout=0.5)
    x = torch.randn(B, T, W, dtype=torch.float64)
    torch.manual_seed(1)
    want = net(x, x, x, need_weights=False)[0]
    torch.manual_seed(1)
    with explicit_attention(net):
        got = net(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_a_network_is_left_as_it_was_also_by_an_error():
    net = nn.Sequential(layer())
    x = torch.zeros(1, 2, W + 1, dtype=torch.float64)
    with explicit_attention(net):
        assert net[0].forward.__func__ is explicit_forward
    with pytest.raises(RuntimeError, match="shape"), explicit_attention(net):
        net[0](x, x, x, need_weights=False)  # too wide
    assert "forward" not in vars(net[0])
