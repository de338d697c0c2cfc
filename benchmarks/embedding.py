"""Rows for a tower that only answers: images to points, and many prompts to class
embeddings, against open_clip.
"""

import numpy as np
import torch
from rows import row, timed

import radwb as rw
from radwb.probe import text


def _vit_small():
    """open_clip's ViT-S/16 at 224 px with random weights, as open_clip has it and as
    radwb does.
    """
    import open_clip

    torch.manual_seed(0)
    net = open_clip.create_model("ViT-S-16").eval()
    about = dict(channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, grid=(14, 14), fit="pad")
    words = open_clip.get_tokenizer("ViT-S-16")
    return net, rw.models.Model(
        net, "ViT-S-16", "image-text", 224, tokenizer=words, **about
    )


def embedding() -> dict:
    """Images to unit vectors; the peer is open_clip's encode_image under autocast and
    no_grad, in batches as ours.

    The peer has its pixels at hand; ours makes them, and its bf16 copy of the tower,
    within the time.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from radwb.pretrain import cost

    net, model = _vit_small()
    images = np.random.default_rng(0).integers(0, 256, (128, 224, 224), dtype=np.uint8)
    x, fast = model.preprocess(images), rw.models.fast_precision() == "bf16-mixed"

    def peer(guard=torch.no_grad):
        with guard(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
            return torch.cat(
                [net.encode_image(part, normalize=True) for part in x.split(32)]
            )

    with torch.no_grad():
        want = net.encode_image(x, normalize=True).numpy()
    assert (rw.models.embed(model, images) * want).sum(1).min() > 0.999
    calls = {"ours": lambda: rw.models.embed(model, images), "peer": peer}
    seconds = timed(calls | {"inference": lambda: peer(torch.inference_mode)}, 5)
    slow = np.median(seconds.pop("inference")) / np.median(seconds["ours"])
    bound = 1.15 if fast else 1.0
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        net.encode_image(
            x[:1]
            # with gradients: torch's attention is else one operation, not counted
        )
    share = counter.get_total_flops() * len(images) / np.median(seconds["ours"])
    share /= cost.peak_flops("cpu", "bf16-mixed" if fast else "32-true")
    equal = (
        f"cosines with fp32 above 0.999; {slow:.1f}x of the same under inference_mode; "
        f"{share:.0%} of the fastest matrix product"
    )
    return row(
        "embed ViT-S/16 224",
        "img/s",
        len(images),
        seconds,
        bound=bound,
        of="ratio",
        equal=equal,
    )


def many_prompts() -> dict:
    """14 findings in 80 templates, as open_clip builds a zero-shot classifier, and as
    `zero_shot` does.
    """
    import open_clip

    net, model = _vit_small()
    names, templates = (
        [f.lower() for f in rw.data.table.FINDINGS],
        open_clip.OPENAI_IMAGENET_TEMPLATES,
    )
    phrases = [[t(name) for t in templates] for name in names]

    def peer():
        return open_clip.build_zero_shot_classifier(
            net, model.tokenizer, names, templates, num_classes_per_batch=None
        )

    def ours():
        text._cache.pop(model, None)  # else they would be known
        return np.stack([rw.probe.class_embedding(model, some) for some in phrases], 1)

    assert np.abs(ours() - peer().numpy()).max() < 1e-5
    seconds = timed({"ours": ours, "peer": peer}, 1)
    known = timed(
        {"known": lambda: [rw.probe.class_embedding(model, some) for some in phrases]},
        5,
    )["known"]
    equal = (
        f"classes within 1e-5; again, from the cache, {1000 * np.median(known):.0f} ms"
    )
    amount = len(names) * len(templates)
    return row(
        "14 x 80 prompts, fp32",
        "prompts/s",
        amount,
        seconds,
        bound=4.0,
        of="ratio",
        equal=equal,
    )


EMBEDDING = {"embedding": embedding, "prompts": many_prompts}
