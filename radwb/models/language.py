"""A small language model that writes: Llama's architecture in plain torch, from GGUF.

Source: Touvron et al. 2023, arXiv 2302.13971; grouped heads after arXiv 2305.13245.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from tqdm.auto import tqdm

from radwb.models import checks
from radwb.models.hub import published_folder
from radwb.models.sources import fill

NORMAL = 1  # token_type in GGUF of a piece of text; others are marks
PIECES = {"token_embd": "words", "output_norm": "norm"}
PARTS = {
    "attn_norm": "norm1",
    "ffn_norm": "norm2",
    "attn_q": "query",
    "attn_k": "key",
    "attn_v": "value",
    "attn_output": "out",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@dataclass(frozen=True)
class LlamaShape:
    """The numbers that a Llama is built from, as GGUF names them."""

    block_count: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: int
    vocab_size: int
    context_length: int
    freq_base: float
    epsilon: float


class Block(nn.Module):
    """Grouped attention with turned positions, then a gated layer, each added."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        width = shape.embedding_length
        self.num_heads = shape.head_count
        self.groups = shape.head_count_kv
        head = width // self.num_heads
        self.norm1 = nn.RMSNorm(width, eps=shape.epsilon)
        self.norm2 = nn.RMSNorm(width, eps=shape.epsilon)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, self.groups * head, bias=False)
        self.value = nn.Linear(width, self.groups * head, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, shape.feed_forward_length, bias=False)
        self.up = nn.Linear(width, shape.feed_forward_length, bias=False)
        self.down = nn.Linear(shape.feed_forward_length, width, bias=False)

    def forward(self, x, turns, past=None):
        """(B, T, W) tokens -> the same, the keys and values, and the attention.

        Args:
            turns: (T, head / 2) complex, the rotation of each place.
            past: keys and values (B, groups, P, head) of the tokens before these.
        """
        B, T, _ = x.shape
        y = self.norm1(x)
        query = _turned(self.query(y).view(B, T, self.num_heads, -1), turns)
        key = _turned(self.key(y).view(B, T, self.groups, -1), turns)
        value = self.value(y).view(B, T, self.groups, -1).transpose(1, 2)
        if past is not None:
            key = torch.cat([past[0], key], 2)
            value = torch.cat([past[1], value], 2)
        share = self.num_heads // self.groups
        keys = key.repeat_interleave(share, 1)
        scores = query @ keys.mT / keys.shape[-1] ** 0.5  # (B, heads, T, P + T)
        later = torch.ones_like(scores[0, 0], dtype=torch.bool)
        later = later.triu(1 + scores.shape[-1] - T)
        attention = scores.masked_fill(later, -torch.inf).softmax(-1)
        mixed = attention @ value.repeat_interleave(share, 1)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return x, (key, value), attention


def _turned(x, turns):
    """(B, T, heads, head) -> (B, heads, T, head): pairs of numbers turned by place."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * turns[:, None]).flatten(-2)
    return turned.transpose(1, 2)


class Llama(nn.Module):
    """Token ids (B, T) -> logits (B, T, V) of the next one."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocab_size, shape.embedding_length)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.block_count))
        self.norm = nn.RMSNorm(shape.embedding_length, eps=shape.epsilon)

    def forward(self, ids, past=None):
        """The logits, keys and values of each layer, and each layer's attention."""
        before = 0 if past is None else past[0][0].shape[2]
        turns = self._turns(before, ids.shape[1], ids.device)
        x = self.words(ids)
        kept = []
        attention = []
        for n, layer in enumerate(self.layers):
            x, keys, weights = layer(x, turns, past[n] if past else None)
            kept.append(keys)
            attention.append(weights)
        return F.linear(self.norm(x), self.words.weight), kept, attention

    def _turns(self, start, length, device):
        head = self.shape.embedding_length // self.shape.head_count
        steps = torch.arange(0, head, 2, device=device) / head
        speeds = self.shape.freq_base**-steps
        places = torch.arange(start, start + length, device=device)
        angles = torch.outer(places.float(), speeds)
        return torch.polar(torch.ones_like(angles), angles)


class Writer:
    """A language model that answers, and whose attention can be looked at.

    `rw.models.load("smollm2")` gives SmolLM2-135M-Instruct, which learned general
    English: no radiology.

    Args:
        net: the network.
        tokenizer: of the `tokenizers` library.
        end: id of the token that ends an answer.
        name, licence: of the weights.
    """

    kind = "language"

    def __init__(self, net, tokenizer, end, name, licence):
        self.net = net.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.end = end
        self.name = name
        self.licence = licence

    def to(self, device: str | torch.device) -> "Writer":
        self.net.to(device)
        return self

    def prompt(self, question: str, *, system: str = SYSTEM) -> str:
        """A question in the form in which the model learned to answer."""
        turns = (("system", system), ("user", question))
        parts = [f"<|im_start|>{who}\n{text}<|im_end|>\n" for who, text in turns]
        return "".join(parts) + "<|im_start|>assistant\n"

    @torch.no_grad()
    def logits(self, text: str) -> torch.Tensor:
        """(T, V) logits of the token behind each token of a text."""
        return self.net(self._ids(text))[0][0]

    @torch.no_grad()
    def attention(self, text: str) -> tuple[torch.Tensor, list[str]]:
        """(L, heads, T, T) what each token of a text attends to, and the tokens."""
        ids = self._ids(text)
        weights = self.net(ids)[2]
        words = [self.tokenizer.decode([i]) for i in ids[0].tolist()]
        return torch.cat(weights), words

    @torch.no_grad()
    def log_likelihood(self, prompt: str, answers: Sequence[str]) -> torch.Tensor:
        """(K,) the logarithm of the chance of each answer behind a prompt, in nats.

        A longer answer is a less likely one: compare those of as many tokens.

        Args:
            prompt: as `prompt` gives it, or a text to go on with.
            answers: K texts, cut into tokens apart from the prompt.
        """
        logits, past, _ = self.net(self._ids(prompt))
        chances = []
        for answer in answers:
            ids = self._ids(answer)
            following, _, _ = self.net(ids, past)
            behind = torch.cat([logits[:, -1:], following[:, :-1]], 1)  # (1, T, V)
            chances.append(-F.cross_entropy(behind[0], ids[0], reduction="sum"))
        return torch.stack(chances)

    @torch.no_grad()
    def write(self, prompt: str, *, most: int = 80) -> str:
        """The likeliest continuation, token by token; no chance in it.

        Args:
            prompt: as `prompt` gives it, or a text to go on with.
            most: tokens.
        Raises:
            ValueError: the prompt and the answer don't fit in the model's context.
        """
        ids = self._ids(prompt)
        room = self.net.shape.context_length
        if ids.shape[1] + most > room:
            raise ValueError(
                f"expected a prompt of at most {room - most} tokens, got {ids.shape[1]}"
            )
        past = None
        answer = []
        for _ in tqdm(range(most), "writing", delay=2, leave=False):
            logits, past, _ = self.net(ids, past)
            token = int(logits[0, -1].argmax())
            if token == self.end:
                break
            answer.append(token)
            ids = ids.new_tensor([[token]])
        return self.tokenizer.decode(answer)

    def _ids(self, text):
        ids = self.tokenizer.encode(text).ids
        if not ids:
            raise ValueError("expected a text, got an empty one")
        return torch.tensor([ids], device=self.net.words.weight.device)


def load_smollm2(name: str, *, download: bool) -> Writer:
    """SmolLM2-135M-Instruct (arXiv 2502.02737), its 4-bit weights as float32."""
    (file,) = published_folder(name, download=download).glob("*.gguf")
    return read_gguf(file, name, licence="Apache-2.0")


def read_gguf(path: str | Path, name: str, *, licence: str = "") -> Writer:
    """A Llama from a GGUF file, its quantised weights as float32.

    Raises:
        ValueError: not GGUF, no Llama with a byte-level BPE, or another's weights.
    """
    try:
        from gguf import GGUFReader
        from gguf.quants import dequantize
    except ImportError as error:
        raise ValueError(
            "expected the package gguf for a language model, which is not installed. "
            "Try: pip install 'radwb[language]'"
        ) from error
    try:
        reader = GGUFReader(path)
        about = {key: field.contents() for key, field in reader.fields.items()}
    except Exception as error:  # a damaged file can break the reader anywhere
        raise ValueError(
            f"expected a GGUF file, got {Path(path).name}, which can't be read as one "
            f"({type(error).__name__})"
        ) from error
    net = checks.outline(lambda: Llama(_shape(about, path)), path)
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        tensors[_in_torch(tensor.name)] = torch.from_numpy(values.copy())
    net = net.to_empty(device="cpu")
    fill(net, tensors, path)
    return Writer(
        net, _tokenizer(about), about["tokenizer.ggml.eos_token_id"], name, licence
    )


def _shape(about, path):
    kind = about.get("general.architecture")
    pieces = about.get("tokenizer.ggml.model")
    if kind != "llama" or pieces != "gpt2":
        raise ValueError(
            f"expected a Llama with a byte-level BPE in {Path(path).name}, "
            f"got {kind} with {pieces}"
        )

    def number(key):
        return checks.whole(checks.part(about, f"llama.{key}", path), key)

    return LlamaShape(
        block_count=number("block_count"),
        embedding_length=number("embedding_length"),
        feed_forward_length=number("feed_forward_length"),
        head_count=number("attention.head_count"),
        head_count_kv=number("attention.head_count_kv"),
        vocab_size=len(about["tokenizer.ggml.tokens"]),
        context_length=number("context_length"),
        freq_base=float(about["llama.rope.freq_base"]),
        epsilon=float(about["llama.attention.layer_norm_rms_epsilon"]),
    )


def _in_torch(name):
    """blk.0.attn_q.weight -> layers.0.query.weight."""
    first, *rest = name.split(".")
    if first == "blk":
        number, part, kind = rest
        return f"layers.{number}.{PARTS.get(part, part)}.{kind}"
    return ".".join([PIECES.get(first, first), *rest])


def _tokenizer(about):
    """The byte-level BPE that GGUF holds as lists, digits one by one as SmolLM's."""
    tokens = about["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in about["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = about["tokenizer.ggml.token_type"]
    marks = [t for t, kind in zip(tokens, kinds, strict=True) if kind != NORMAL]
    tokenizer.add_special_tokens([AddedToken(m, special=True) for m in marks])
    return tokenizer
