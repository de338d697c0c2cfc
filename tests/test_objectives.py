"""Claims about rw.pretrain.objectives.

Each equals another's code, a slow loop, or a case by hand.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import SigLipLoss

from radwb.pretrain import objectives
from radwb.pretrain.losses import same_captions


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape, seed=0):
    return F.normalize(draw(*shape, seed=seed), dim=-1)


# images against texts


def test_siglip_equals_open_clip():
    images, texts = unit(24, 16), unit(24, 16, seed=1)
    want = SigLipLoss()(images, texts, torch.tensor(10.0), torch.tensor(-10.0))
    torch.testing.assert_close(
        objectives.siglip(images, texts, 10.0, -10.0), want, rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        objectives.siglip(images, texts, 10.0, -10.0, same=torch.eye(24) > 0), want
    )


def test_siglip_says_yes_to_equal_captions():
    """Two images of one caption: four pairs, all a yes, at a cosine of 1."""
    one = unit(1, 8).expand(2, 8)
    got = objectives.siglip(one, one, 3.0, 1.0, same=torch.ones(2, 2, dtype=torch.bool))
    assert got.item() == pytest.approx(4 * math.log1p(math.exp(-4)) / 2, abs=1e-6)


def slow_local(patches, words, mask, attention, match, scale, truth):
    """GLoRIA's equations, a pair at a time, in numpy."""
    B = len(patches)
    score = np.zeros((B, B))
    for i in range(B):
        v = patches[i] / np.linalg.norm(patches[i], axis=1, keepdims=True)
        for j in range(B):
            total = 0.0
            for t, word in enumerate(words[j]):
                if mask[j, t]:
                    word = word / np.linalg.norm(word)
                    a = np.exp(attention * (v @ word))
                    c = (a / a.sum()) @ v
                    total += np.exp(match * (c @ word) / np.linalg.norm(c))
            score[i, j] = np.log(total) / match
    rows = scale * score - np.log(np.exp(scale * score).sum(1, keepdims=True))
    columns = scale * score - np.log(np.exp(scale * score).sum(0, keepdims=True))
    return -((truth * rows).sum(1).mean() + (truth.T * columns).sum(0).mean()) / 2


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 0]])
def test_local_equals_a_slow_loop(ids):
    patches, words = draw(5, 6, 4).double(), draw(5, 3, 4, seed=1).double()
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]]) > 0
    truth = same_captions(torch.tensor(ids)).double()
    got = objectives.local(
        patches, words, mask, attention=4.0, match=5.0, scale=10.0, targets=truth
    )
    want = slow_local(
        patches.numpy(), words.numpy(), mask.numpy(), 4.0, 5.0, 10.0, truth.numpy()
    )
    assert got.item() == pytest.approx(want, rel=1e-12)


def test_local_does_not_read_what_is_no_word():
    patches = draw(4, 6, 8)
    words = draw(4, 5, 8, seed=1)
    mask = torch.arange(5).expand(4, 5) < 3
    other = torch.where(mask[..., None], words, 9 * draw(4, 5, 8, seed=2))
    assert objectives.local(patches, words, mask) == objectives.local(
        patches, other, mask
    )
    assert objectives.local(patches, words, mask) != objectives.local(
        patches, other, mask | True
    )


def test_local_finds_one_patch_where_the_mean_of_the_patches_tells_nothing():
    """Each image has its word in one of 16 patches, and all have the same mean."""
    words = torch.eye(8)[:4, None]  # (4, 1, 8)
    patches = torch.zeros(4, 16, 8)
    patches[..., 7] = 1.0
    for i in range(4):
        patches[i, 3 * i, i], patches[i, 15, i] = 9.0, -9.0
    assert torch.allclose(patches.mean(1), patches.mean(1)[:1])
    assert (
        objectives.local(patches, words, torch.ones(4, 1, dtype=torch.bool))
        < 0.2
        < math.log(4)
    )


# images alone


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_equals_a_loop_over_views(temperature):
    """Also equal to lightly 1.6.0's NTXentLoss and, below, DINOLoss; it is too heavy to
    be needed here.
    """
    a, b = draw(7, 5).double(), draw(7, 5, seed=1).double()
    z = np.concatenate([a, b]) / np.linalg.norm(
        np.concatenate([a, b]), axis=1, keepdims=True
    )
    losses = []
    for i in range(14):
        e = {k: math.exp(z[i] @ z[k] / temperature) for k in range(14) if k != i}
        losses.append(-math.log(e[(i + 7) % 14] / sum(e.values())))
    assert objectives.simclr(a, b, temperature).item() == pytest.approx(
        np.mean(losses), rel=1e-12
    )


@pytest.mark.parametrize("views", [2, 3])
def test_dino_equals_a_loop_over_pairs_of_views(views):
    student = draw(views, 4, 6)
    teacher = draw(views, 4, 6, seed=1)
    centre = draw(6, seed=2)
    losses = []
    for t in range(views):
        p = F.softmax((teacher[t] - centre) / 0.07, -1)
        losses += [F.cross_entropy(student[s] / 0.2, p) for s in range(views) if s != t]
    got = objectives.dino(student, teacher, centre, 0.2, 0.07)
    torch.testing.assert_close(got, torch.stack(losses).mean())
    plain = objectives.dino(student, teacher, None, 0.2, 0.07)
    torch.testing.assert_close(
        plain, objectives.dino(student, teacher, torch.zeros(6), 0.2, 0.07)
    )


def test_no_gradient_reaches_the_teacher():
    student = draw(2, 4, 6).requires_grad_()
    teacher = draw(2, 4, 6, seed=1).requires_grad_()
    objectives.dino(student, teacher, torch.zeros(6)).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_the_centre_goes_to_the_mean_of_the_teacher():
    teacher = draw(2, 4, 3)
    want = 0.9 * torch.ones(3) + 0.1 * teacher.reshape(8, 3).mean(0)
    torch.testing.assert_close(
        objectives.moved_centre(torch.ones(3), teacher, 0.9), want
    )


def distil(centring, steps=200):
    """A linear student and its average see 32 points, blurred, that share a large mean,
    as a real tower's features do.

    Returns the entropy of the teacher's mean answer over 8 prototypes, nats.
    """
    points = torch.cat([draw(32, 8), torch.full((32, 1), 4.0)], 1)
    rng = torch.Generator().manual_seed(1)
    student = (0.3 * draw(9, 8, seed=3)).requires_grad_()
    teacher, centre = student.detach().clone(), torch.zeros(8)
    for _ in range(steps):
        x = points + 0.5 * torch.randn(2, 32, 9, generator=rng)
        answers = F.normalize(x @ student, dim=-1)
        out = F.normalize(x @ teacher, dim=-1)
        (slope,) = torch.autograd.grad(
            objectives.dino(answers, out, centre if centring else None), student
        )
        with torch.no_grad():
            student -= 0.3 * slope
            teacher.lerp_(student, 0.1)
            centre = objectives.moved_centre(centre, out)
    p = ((out - centre if centring else out) / 0.04).softmax(-1).mean((0, 1))
    return objectives.entropy(p).item()


def test_dino_without_centring_gives_all_images_one_answer():
    assert distil(centring=False) < 0.05
    assert distil(centring=True) > 0.75 * math.log(8)


def test_entropy_by_hand():
    p = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4])
    torch.testing.assert_close(objectives.entropy(p), torch.tensor([0.0, math.log(4)]))


def test_patches_lie_row_by_row():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    want = torch.tensor(
        [[0.0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    )
    assert torch.equal(objectives.patchify(image, 2)[0], want)


@pytest.mark.parametrize(
    ("n", "share", "masked"), [(64, 0.75, 48), (49, 0.6, 29), (10, 0.1, 1)]
)
def test_a_mask_hides_its_share_of_each_image_and_follows_its_seed(n, share, masked):
    mask = objectives.random_mask(200, n, share, seed=3)
    assert mask.shape == (200, n)
    assert (mask.sum(1) == masked).all()
    assert (mask.float().mean(0) - masked / n).abs().max() < 0.2  # no place is spared
    assert torch.equal(mask, objectives.random_mask(200, n, share, seed=3))
    assert not torch.equal(mask, objectives.random_mask(200, n, share, seed=4))


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_a_mask_of_nothing_or_everything_is_refused(share):
    with pytest.raises(ValueError, match="leaves some"):
        objectives.random_mask(2, 16, share, seed=0)


def test_mae_of_a_four_by_four_by_hand():
    """Of four patches two are hidden: one 0 1 4 5, of mean 2.5 and variance 17 / 3; one
    wholly even, so all 0.
    """
    image = torch.arange(16.0).view(1, 1, 4, 4)
    image[..., 2:, 2:] = 7.0
    mask = torch.tensor([[True, False, False, True]])
    predicted = torch.full((1, 4, 4), 1.0)
    predicted[0, 1:3] = 1e6  # what was in sight doesn't count
    first = (1 - (np.array([0, 1, 4, 5]) - 2.5) / math.sqrt(17 / 3)) ** 2
    got = objectives.mae(predicted, image, mask, 2)
    assert got.item() == pytest.approx((first.mean() + 1) / 2, rel=1e-6)


def test_mae_of_the_right_answer_is_nothing_whatever_the_exposure():
    image = draw(2, 1, 8, 8)
    target = objectives.patchify(image, 4)
    target = (target - target.mean(-1, keepdim=True)) / target.std(-1, keepdim=True)
    mask = objectives.random_mask(2, 4, 0.5, seed=0)
    assert objectives.mae(target, image, mask, 4) < 1e-9
    assert objectives.mae(target, 3 * image + 5, mask, 4) < 1e-9


# texts alone


VOCAB = 50
PAD = 0
START = 48
END = 49


def texts(n=400, words=20):
    tokens = torch.randint(
        1, 48, (n, words + 4), generator=torch.Generator().manual_seed(0)
    )
    tokens[:, 0] = START
    tokens[:, words + 1] = END
    tokens[:, words + 2 :] = PAD
    return tokens


def masked(tokens, share=0.15, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return objectives.mask_tokens(
        tokens, VOCAB, rng, vocab=VOCAB, special=(PAD, START, END), share=share
    )


def test_of_the_chosen_words_eight_in_ten_are_masked_and_marks_are_never_touched():
    tokens = texts()
    shown, chosen = masked(tokens)
    assert (chosen.sum(1) == 3).all()  # 15 % of 20 words
    assert torch.equal(shown[~chosen], tokens[~chosen])
    assert not chosen[(tokens == PAD) | (tokens == START) | (tokens == END)].any()
    hidden = (shown == VOCAB)[chosen].float().mean()
    stayed = (shown == tokens)[chosen].float().mean()
    assert hidden == pytest.approx(0.8, abs=0.04)
    assert stayed == pytest.approx(0.1 + 0.1 / 47, abs=0.03)
    put_in = shown[chosen & (shown != VOCAB) & (shown != tokens)]
    assert len(put_in.unique()) > 30
    assert not torch.isin(put_in, torch.tensor([PAD, START, END])).any()
    assert (chosen.float().mean(0)[1:21] > 0.05).all()  # no place is spared


def test_masking_follows_its_seed_and_a_text_of_one_word_has_it_chosen():
    assert masked(texts(4, 1))[1].sum(1).tolist() == [1] * 4
    assert not masked(texts(4, 0))[1].any()  # no words, nothing to choose
    assert torch.equal(masked(texts())[0], masked(texts())[0])
    assert not torch.equal(masked(texts())[0], masked(texts(), seed=1)[0])


def test_masked_lm_equals_cross_entropy_of_the_chosen():
    tokens, logits = texts(6), draw(6, 24, VOCAB)
    _, chosen = masked(tokens)
    want = F.cross_entropy(logits[chosen], tokens[chosen])
    torch.testing.assert_close(objectives.masked_lm(logits, tokens, chosen), want)
    assert objectives.masked_lm(logits, tokens, chosen & False) == 0


def test_causal_lm_equals_cross_entropy_of_tokens_shifted_by_hand():
    tokens, logits = (
        texts(3, 2),
        draw(3, 6, VOCAB),
    )  # start, two words, end, two of padding
    places, answers = [], []
    for row in range(3):
        for t in range(3):
            places.append(logits[row, t])
            answers.append(tokens[row, t + 1])
    want = F.cross_entropy(torch.stack(places), torch.stack(answers))
    torch.testing.assert_close(objectives.causal_lm(logits, tokens, PAD), want)


# under autocast


def test_a_caller_under_autocast_gets_what_float32_gives():
    a = unit(16, 32)
    b = unit(16, 32, seed=1)
    tokens = texts(4)
    patches = draw(4, 6, 8)
    words = draw(4, 3, 8, seed=1)
    logits = draw(4, 24, VOCAB)
    cases = [
        (objectives.siglip, (a, b, 100.0, -10.0)),
        (objectives.local, (patches, words, torch.ones(4, 3, dtype=torch.bool))),
        (objectives.simclr, (a, b, 0.05)),
        (objectives.dino, (draw(2, 4, 8), draw(2, 4, 8, seed=1), torch.zeros(8))),
        (
            objectives.mae,
            (
                draw(4, 4, 16),
                draw(4, 1, 8, 8),
                objectives.random_mask(4, 4, 0.5, seed=0),
                4,
            ),
        ),
        (objectives.masked_lm, (logits, tokens, masked(tokens)[1])),
        (objectives.causal_lm, (logits, tokens, PAD)),
    ]
    for function, arguments in cases:
        with torch.autocast("cpu", torch.bfloat16):
            got = function(*arguments)
            half = function(
                *(
                    t.bfloat16() if getattr(t, "is_floating_point", bool)() else t
                    for t in arguments
                )
            )
        assert torch.equal(got, function(*arguments)), function.__name__
        assert half.dtype == torch.float32, function.__name__
