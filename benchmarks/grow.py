"""A model with a larger input, or with further blocks, that begins as it was.

`grown(model, size=160)` resizes the positions as open_clip does for a larger input;
`grown(model, layers=5)` adds blocks behind the others whose two outputs are zero, so
that the answer is the same until they have learnt (a net that grows and keeps its
function: Chen et al. 2016, "Net2Net", arXiv 1511.05641).
"""

import torch
from open_clip.model import resize_pos_embed

import radwb as rw


def grown(model: rw.models.Model, **shape: int) -> rw.models.Model:
    """`model` in another shape, e.g. size=160 or layers=5.

    Raises:
        ValueError: the new shape has fewer blocks than the model.
    """
    old = model.spec["shape"]
    if shape.get("layers", old["layers"]) < old["layers"]:
        raise ValueError(f"expected at least {old['layers']} layers, got {shape}")
    larger = rw.models.clip_tiny(model.tokenizer, shape=old | shape, name=model.name)
    state = model.net.state_dict()
    resize_pos_embed(state, larger.net)
    found = larger.net.load_state_dict(state, strict=False)
    if found.unexpected_keys:
        raise ValueError(f"expected weights of a clip-tiny, got {found}")
    blocks = larger.net.visual.transformer.resblocks
    for block in blocks[old["layers"] :]:
        for output in (block.attn.out_proj, block.mlp.c_proj):
            torch.nn.init.zeros_(output.weight)
            torch.nn.init.zeros_(output.bias)
    return larger
