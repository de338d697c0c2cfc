"""The methods of rw.attend against other libraries.

captum, pytorch-grad-cam, MONAI, networkx and the papers' formulas written out.
"""

from functools import partial

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from monai.visualize import OcclusionSensitivity
from test_attend import paper_relevance, paper_rollout
from torch import nn
from towers import tiny_clip

from radwb import attend, data, models
from radwb.attend.methods import TABLE, formulas
from radwb.attend.methods.gradients import integrated_gradients, smoothgrad
from radwb.attend.methods.grounding import similarity
from radwb.attend.methods.perturb import occlusion, rise
from radwb.attend.targets import directions
from radwb.data import Scan

QUESTION = ("there is a pleural effusion", "there is no pleural effusion")


@pytest.fixture(scope="module", params=["random", "trained"])
def clip(request):
    return tiny_clip() if request.param == "random" else models.load("radwb-tiny")


@pytest.fixture(scope="module")
def scans():
    """Two smooth films, unlike noise not grey when seen from afar, with a bright patch
    each.
    """
    films = [
        attend.blind.random_map((140, 100), 3),
        attend.blind.random_map((80, 128), 4),
    ]
    films = [np.float32(0.6 * m / m.max()) for m in films]
    films[0][90:120, 20:45], films[1][10:30, 70:100] = 0.95, 0.9
    return [Scan(m) for m in films]


class Score(nn.Module):
    """The score as one number an image, for the other libraries."""

    def __init__(self, model, target):
        super().__init__()
        self.model = model
        self.net = model.net
        self.direction = directions(model, target, 1)[0].detach()

    def forward(self, x):
        output = (
            self.model.encode_image(x)
            if self.model.findings is None
            else self.model.classify(x)
        )
        return (output * self.direction).sum(-1)


def weights_of(model, x, target=QUESTION):
    return directions(model, target, len(x))[:, None]  # (B, 1, E)


def same(mine, theirs, tolerance=1e-4):
    mine, theirs = (torch.as_tensor(v).detach().double() for v in (mine, theirs))
    assert mine.shape == theirs.shape
    assert theirs.abs().max() > 0
    return float((mine - theirs).abs().max() / theirs.abs().max()) < tolerance


# ---- gradients of pixels


def test_integrated_gradients_equal_captum(clip, scans):
    x = clip.preprocess(scans)
    black = clip.normalise(torch.zeros(1, 1, clip.size, clip.size))
    peer = IntegratedGradients(Score(clip, QUESTION))
    want = peer.attribute(
        x, black.expand_as(x), n_steps=32, method="gausslegendre"
    ).sum(1)
    assert same(integrated_gradients(clip, x, weights_of(clip, x))[:, 0], want)
    m = attend.attention_map(
        clip, scans[0], method="integrated_gradients", target=QUESTION
    )
    assert same(
        m.values,
        data.to_scan(
            want[0].clamp(min=0).detach().numpy(), scans[0].shape, fit=clip.fit
        ),
    )


def test_integrated_gradients_sum_to_what_the_film_adds_to_an_empty_one(clip, scans):
    x, score = clip.preprocess(scans), Score(clip, QUESTION)
    black = clip.normalise(torch.zeros(1, 1, clip.size, clip.size))
    added = (score(x) - score(black)).detach()
    total = integrated_gradients(clip, x, weights_of(clip, x), steps=256)[:, 0].sum(
        (-2, -1)
    )
    # the stem has kinks, so the sum nears its limit slowly
    assert torch.allclose(total, added, atol=2e-3)


def test_smoothgrad_equals_captum_with_the_same_noise(clip, scans):
    x = clip.preprocess(scans[:1])
    torch.manual_seed(0)
    peer = NoiseTunnel(Saliency(Score(clip, QUESTION)))
    stdev = float(0.1 * (x.max() - x.min()))
    want = peer.attribute(
        x, nt_type="smoothgrad", nt_samples=25, stdevs=stdev, abs=False
    ).sum(1)
    mine = smoothgrad(clip, x, weights_of(clip, x))[:, 0]
    # a unit of grey is 1 / std units of the input
    assert same(mine, want / clip.std[0])
    m = attend.attention_map(clip, scans[0], method="smoothgrad", target=QUESTION)
    assert same(
        m.values, data.to_scan(np.abs(mine[0].numpy()), scans[0].shape, fit=clip.fit)
    )


def test_three_channels_of_one_grey_count_as_one(vit, scans):
    x = vit.preprocess(scans)
    drawn = torch.randn(3, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    grey = (x[:, :1] * 0.5 + 0.5).requires_grad_()
    spread = (
        grey.amax((1, 2, 3), keepdim=True) - grey.amin((1, 2, 3), keepdim=True)
    ).detach()
    noisy = (grey + 0.1 * spread * drawn).flatten(0, 1)  # (3 * B, 1, S, S)
    torch.autograd.backward(vit.net(vit.normalise(noisy))[:, 1].sum() / 3)
    assert same(smoothgrad(vit, x, weights_of(vit, x, "b"), n=3)[:, 0], grey.grad[:, 0])


# ---- hidden parts


def test_occlusion_equals_captum(clip, scans):
    side = clip.size // clip.grid[0]
    x, window = clip.preprocess(scans), (clip.channels, side, side)
    mine = occlusion(clip, x, weights_of(clip, x))[:, 0]
    for image, got in zip(x, mine, strict=True):
        peer = Occlusion(Score(clip, QUESTION))
        mean = float(image.mean())
        want = peer.attribute(
            image[None],
            window,
            strides=window,
            baselines=mean,
            perturbations_per_eval=16,
        )
        assert same(got, want[0, 0, ::side, ::side])


def test_occlusion_equals_monai(vit, scans):
    x = vit.preprocess(scans[:1])
    peer = OcclusionSensitivity(
        vit.net, mask_size=16, mode="mean_img", overlap=0, activate=False, verbose=False
    )
    with torch.no_grad():
        # the class's logit with each patch hidden
        hidden = peer(x)[0][0, 1, ::16, ::16]
        want = vit.net(x)[0, 1] - hidden
    assert same(occlusion(vit, x, weights_of(vit, x, "b"))[0, 0], want.as_tensor())


def paper_rise(score, image, fill, n, cells, seed):
    """Petsiuk et al. 2018, section 3.2 and eq. 6, mask by mask: S = 1 / (n E[M]) * sum
    of f(I * M) M.
    """
    side, step = image.shape[-1], int(np.ceil(image.shape[-1] / cells))
    draw = torch.Generator().manual_seed(seed)
    coarse = (torch.rand(n, 1, cells, cells, generator=draw) < 0.5).float()
    shifts = torch.randint(step, (n, 2), generator=draw)
    total = np.zeros((side, side))
    mean = 0
    masks = []
    for grid, (dy, dx) in zip(coarse, shifts, strict=True):
        wide = F.interpolate(
            grid[None], scale_factor=(cells + 1) * step / cells, mode="bilinear"
        )[0, 0]
        mask = wide[dy : dy + side, dx : dx + side]
        f = float(score((image * mask + fill * (1 - mask))[None]))
        total, mean = total + f * mask.double().numpy(), mean + f / n
        masks.append(mask.double().numpy())
    return (total - mean * sum(masks)) / (n * 0.5)


def test_rise_equals_the_papers_formula_less_its_mean_score(clip, scans):
    x = clip.preprocess(scans)
    mine = rise(clip, x, weights_of(clip, x), n=40, seed=5)[:, 0]
    for image, got in zip(x, mine, strict=True):
        with torch.no_grad():
            want = paper_rise(
                Score(clip, QUESTION), image, image.mean(), n=40, cells=7, seed=5
            )
        assert same(got, want, 1e-3)


@pytest.mark.parametrize("method", ["rise", "smoothgrad"])
def test_random_masks_and_noise_are_the_same_in_every_call(vit, scans, method):
    torch.manual_seed(1)
    one = attend.attention_map(vit, scans[0], method=method, target="a")
    torch.manual_seed(2)
    assert np.array_equal(
        one.values,
        attend.attention_map(vit, scans[0], method=method, target="a").values,
    )


# ---- Grad-CAM and its kin


def paper_gradcam(A, g):
    """Selvaraju et al. 2017, eq. 1 and 2, channel by channel in numpy."""
    return np.maximum(sum(grad.mean() * a for a, grad in zip(A, g, strict=True)), 0)


def paper_gradcam_plus_plus(A, g):
    """Chattopadhay et al. 2018, eq. 19 and 7, channel by channel in numpy."""
    cam = np.zeros(A.shape[1:])
    for a, grad in zip(A, g, strict=True):
        alpha = np.where(
            grad != 0,
            grad**2 / np.where(grad != 0, 2 * grad**2 + a.sum() * grad**3, 1),
            0,
        )
        cam += (alpha * np.maximum(grad, 0)).sum() * a
    return np.maximum(cam, 0)


def paper_layercam(A, g):
    """Jiang et al. 2021, eq. 5 to 7, channel by channel in numpy."""
    return np.maximum(
        sum(np.maximum(grad, 0) * a for a, grad in zip(A, g, strict=True)), 0
    )


def features_by_hooks(model, layer, x, target, skip=0):
    """(D, h, w) what enters (a block) or leaves (a CNN's stage) `layer` for one image,
    and its gradient.
    """
    noted = []
    hook = layer.register_forward_hook(lambda _, args, out: noted.append((*args, out)))
    score = Score(model, target)(x)
    hook.remove()
    features = noted[0][0] if skip else noted[0][-1]
    grad = torch.autograd.grad(score.sum(), features)[0]
    both = [features, grad]
    if skip:
        both = [t[:, skip:].mT.unflatten(-1, model.grid) for t in both]
    return [np.float64(t.detach()[0]) for t in both]


def patches_behind_one(grid, tokens):
    return tokens[:, 1:].mT.unflatten(-1, grid)


PAPERS = {
    "gradcam": paper_gradcam,
    "gradcam++": paper_gradcam_plus_plus,
    "layercam": paper_layercam,
}


@pytest.mark.parametrize(("method", "paper"), PAPERS.items())
def test_gradcam_and_kin_equal_their_papers(clip, cnn, scans, method, paper):
    block = clip.net.visual.transformer.resblocks[-1]
    # one of them has evidence for it
    asks = [(clip, block, 1, QUESTION), (clip, block, 1, QUESTION[::-1])]
    asks += [(cnn, cnn.net.layer4, 0, "b")]
    seen = []
    for model, layer, skip, target in asks:
        A, g = features_by_hooks(
            model, layer, model.preprocess(scans[:1]), target, skip
        )
        theirs = data.to_scan(np.float32(paper(A, g)), scans[0].shape, fit=model.fit)
        m = attend.attention_map(model, scans[0], method=method, target=target)
        np.testing.assert_allclose(m.values, theirs, atol=1e-3 * theirs.max(), rtol=0)
        seen.append(theirs.max() > 0)
    assert any(seen[:2])
    assert seen[2]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("gradcam", "GradCAM"),
        ("gradcam++", "GradCAMPlusPlus"),
        ("layercam", "LayerCAM"),
    ],
)
def test_gradcam_and_kin_equal_pytorch_grad_cam(clip, cnn, scans, method, name):
    peers = pytest.importorskip(
        "pytorch_grad_cam", reason="pip install grad-cam: it brings 150 MB of OpenCV"
    )
    block = clip.net.visual.transformer.resblocks[-1]
    before = block.register_forward_pre_hook(
        lambda _, args: (block.entry(args[0]), *args[1:])
    )
    # the other library hooks on what a layer gives, not on what it is given
    block.entry = nn.Identity()
    try:
        # its alpha has poles where a feature is negative, and the other adds 1e-6 there
        on_vit = [(clip, block.entry, QUESTION)] if method != "gradcam++" else []
        for model, layer, target in [*on_vit, (cnn, cnn.net.layer4, "b")]:
            x = model.preprocess(scans[:1])
            score = Score(model, target)
            score.direction *= 100  # against that 1e-6
            grid = None if model is cnn else partial(patches_behind_one, model.grid)
            peer = getattr(peers, name)(score, [layer], reshape_transform=grid)
            asks = [lambda output: output]
            peer(x, targets=asks)
            A, g = (
                getattr(peer.activations_and_grads, k)[0].numpy()
                for k in ("activations", "gradients")
            )
            # before it resizes and scales
            want = np.maximum(peer.get_cam_image(x, layer, asks, A, g, False), 0)
            weights = directions(model, target, 1)[:, None] * 100
            mine = TABLE[method].compute(model, x, weights)[:, 0]
            near = 1e-2 if method == "gradcam++" else 1e-4
            assert same(mine, want, near)
    finally:
        before.remove()
        del block.entry


def test_gradcam_of_a_one_channel_densenet_equals_captum(scans):
    from torchvision.models import DenseNet

    torch.manual_seed(0)
    # as TorchXRayVision's, but smaller
    net = DenseNet(8, (2, 2, 2, 2), 16, num_classes=2)
    net.features.conv0 = nn.Conv2d(1, 16, 7, 2, 3, bias=False)
    model = models.Model(
        net,
        "xrv",
        "image",
        96,
        1,
        (0.5,),
        (1 / 2048,),
        "crop",
        (3, 3),
        findings=["a", "b"],
    )
    peer, x = LayerGradCam(net, net.features.norm5), model.preprocess(scans[:1])
    want = peer.attribute(x, target=1, relu_attributions=True)
    for method in ("gradcam", "gradcam++", "layercam"):
        m = attend.attention_map(model, scans[0], method=method, target="b")
        assert m.values.max() > 0
        if method == "gradcam":
            assert same(
                m.values,
                data.to_scan(want[0, 0].detach().numpy(), scans[0].shape, fit="crop"),
            )


# ---- through the layers


def test_rollout_and_relevance_equal_their_papers_loops(clip, scans):
    seen = attend.capture(clip, clip.preprocess(scans), target=QUESTION)
    maps_of = {
        m: attend.attention_maps(clip, scans, method=m, targets=QUESTION)
        for m in ("rollout", "relevance")
    }
    for b, scan in enumerate(scans):
        A, G = (
            seen[kind][:, b].double().numpy() for kind in ("attention", "gradients")
        )
        R = paper_relevance(A, G, 0)
        for method, full in [
            ("rollout", paper_rollout(A)),
            ("relevance", R - np.eye(len(R))),
        ]:
            # this tower averages its patches
            grid = full[1:, 1:].mean(0).reshape(clip.grid).astype(np.float32)
            assert same(
                maps_of[method][b].values, data.to_scan(grid, scan.shape, fit=clip.fit)
            )


# ---- flow, values, similarity


def test_flow_of_two_layers_and_two_tokens_by_hand():
    first = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    last = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # halves: first [[.5, .5], [0, 1]], last [[.5, .5], [.5, .5]]. From token 0: .5 goes
    # to each middle token; input 0 is fed by middle 0 alone, at most .5; input 1 by
    # both, .5 and 1: all of it arrives
    flow = formulas.flow(torch.stack([first, last]), rows=torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(flow, torch.tensor([0.5, 1.0]).double(), atol=1e-8)
    rolled = formulas.rollout(
        torch.stack([first, last])[:, None], rows=torch.tensor([[1.0, 0.0]])
    )
    # what is mixed, not what could run
    assert torch.allclose(rolled, torch.tensor([[0.25, 0.75]]))


def paper_flow(attention, read, token):
    """Abnar and Zuidema 2020, section 3.2: the layers as a graph, its edges as pipes,
    solved by networkx.
    """
    L, T, _ = attention.shape
    graph = networkx.DiGraph()
    for i in range(T):
        graph.add_edge("source", (L, i), capacity=float(read[i]))
    for layer, W in enumerate(attention):
        for i in range(T):
            for j in range(T):
                graph.add_edge(
                    (layer + 1, i),
                    (layer, j),
                    capacity=float(0.5 * W[i, j] + 0.5 * (i == j)),
                )
    return networkx.maximum_flow_value(graph, "source", (0, token))


def test_flow_equals_networkx(clip, scans):
    scan = scans[0]
    # two layers
    seen = attend.capture(clip, clip.preprocess(scan), heads="mean")["attention"][
        -2:, 0, 0
    ].numpy()
    patches = clip.grid[0] * clip.grid[1]
    read = np.r_[0, np.full(patches, 1 / patches)]  # this tower averages its patches
    last = len(clip.net.visual.transformer.resblocks) - 2
    got = formulas.flow(torch.from_numpy(seen), rows=torch.from_numpy(read)[None])
    for token in (1, 6):
        assert got[token] == pytest.approx(paper_flow(seen, read, token), abs=1e-6)
    m = attend.attention_map(clip, scan, method="flow", layer=last)
    want = got[1:].reshape(clip.grid).float().numpy()
    assert same(m.values, data.to_scan(want, scan.shape, fit=clip.fit))


@pytest.mark.parametrize("head", [None, 1])
def test_value_norm_equals_the_papers_formula(clip, scans, head):
    """Kobayashi et al. 2020, eq. 3 to 5, with the block's own weights: f(x) = (x W_V +
    b_V) W_O, ||sum a f(x)||.
    """
    scan = scans[0]
    seen = attend.capture(clip, clip.preprocess(scan))
    heads, T = seen["attention"].shape[2], seen["tokens"].shape[2]
    block, D = clip.net.visual.transformer.resblocks[-1], seen["tokens"].shape[-1]
    with torch.no_grad():
        x = block.ln_1(seen["tokens"][-2])[0]
        v = x @ block.attn.in_proj_weight[2 * D :].T + block.attn.in_proj_bias[2 * D :]
        d, total = D // heads, torch.zeros(T, T, D)
        for h in range(heads) if head is None else [head]:
            # (T, D)
            f = (
                v[:, h * d : (h + 1) * d]
                @ block.attn.out_proj.weight[:, h * d : (h + 1) * d].T
            )
            total += seen["attention"][-1, 0, h][:, :, None] * f
    # this tower averages its patches
    want = total.norm(dim=-1)[1:].mean(0)[1:].reshape(clip.grid).numpy()
    m = attend.attention_map(clip, scan, method="value_norm", head=head)
    assert same(m.values, data.to_scan(want, scan.shape, fit=clip.fit))


def test_similarity_equals_the_cosine_of_projected_tokens(clip, scans):
    x, tower = clip.preprocess(scans), clip.net.visual
    with torch.no_grad():
        last = tower.forward_intermediates(x, indices=1, output_fmt="NLC")[
            "image_intermediates"
        ][0]
        joint = F.normalize(tower.ln_post(last) @ tower.proj, dim=-1)
        # (B, patches)
        want = joint @ (
            clip.encode_text(QUESTION[0])[0] - clip.encode_text(QUESTION[1])[0]
        )
    assert same(
        similarity(clip, x, weights_of(clip, x))[:, 0], want.unflatten(-1, clip.grid)
    )
    m = attend.attention_map(clip, scans[0], method="similarity", target=QUESTION)
    grid = (want[0] - want[0].min()).reshape(clip.grid).numpy()
    assert same(m.values, data.to_scan(grid, scans[0].shape, fit=clip.fit))


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("late", [False, True])
def test_similarity_knows_where_the_tower_norms_and_proves_it(
    scans, pool, late, monkeypatch
):
    model = tiny_clip()
    model.net.visual.pool_type, model.net.visual.final_ln_after_pool = pool, late
    x = model.preprocess(scans)
    assert similarity(model, x, weights_of(model, x)).abs().max() > 0.01
    # a wrong token
    monkeypatch.setattr(
        "radwb.attend.methods.grounding.read_out", lambda model, T: torch.eye(T)[3:4]
    )
    with pytest.raises(ValueError, match="read-out comes out .* off its embedding"):
        similarity(model, x, weights_of(model, x))


def test_similarity_refuses_what_has_no_joint_space(vit, cnn, scans):
    for model in (vit, cnn):
        with pytest.raises(
            ValueError, match="similarity: expected an image-text model.*relevance"
        ):
            attend.attention_map(model, scans[0], method="similarity", target="a")
