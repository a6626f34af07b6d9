"""How much a translation asks of the machine: multiply-adds and bytes, from the architecture alone.

What counts is what the network defines, every matrix product in full. An implementation that finds
a way to do less (products looked up in a table, a shortlist of the output layer) is not charged
less: it shows as a higher share of the ceiling. Additions, tanh, softmax and the search are not
counted. Knows no torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from model.config import ModelConfig

Stage = Literal["encoder", "bottom layer", "attention", "upper layers", "readout", "output"]
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Bytes of one number: what a product reads, what it writes. Sums of int8 are wider.
_WIDTHS = {"fp32": (4, 4), "bf16": (2, 2), "int8": (1, 4)}


@dataclass(frozen=True)
class Product:
    """`count` matrix products of (rows x inner) and (inner x columns)."""

    rows: int
    inner: int
    columns: int
    count: int = 1
    weights: bool = True  # the right-hand matrix holds weights, not states

    @property
    def multiply_adds(self) -> int:
        return self.count * self.rows * self.inner * self.columns

    def bytes_moved(self, precision: str) -> int:
        """Every operand read once, every result written once. States stay fp32 under int8."""
        quantized = precision == "int8" and not self.weights
        read, written = _WIDTHS["fp32" if quantized else precision]
        operands = self.rows * self.inner + self.inner * self.columns
        return self.count * (read * operands + written * self.rows * self.columns)


Products = Mapping[Stage, tuple[Product, ...]]


def encoder_products(config: ModelConfig, *, sentences: int, src_len: int) -> Products:
    """All that is done once per sentence of `src_len` tokens, EOS included."""
    enc, hidden = config.encoder_size, config.encoder_hidden
    directions = 2 if config.bidirectional else 1
    wide = _GATES[config.cell] * hidden
    places = sentences * src_len
    products: list[Product] = []
    for layer in range(config.encoder_layers):
        size = config.embedding_size if layer == 0 else enc
        products.append(Product(places, size, wide, count=directions))
        products.append(Product(sentences, hidden, wide, count=directions * src_len))
    if config.attention == "additive":
        products.append(Product(places, enc, config.attention_size))  # the keys
    states = config.decoder_layers * (2 if config.cell == "lstm" else 1)
    products.append(Product(sentences, enc, config.decoder_hidden, count=states))
    return {"encoder": tuple(products)}


def step_products(config: ModelConfig, *, sentences: int, beam_size: int, src_len: int) -> Products:
    """One more target token for `beam_size` hypotheses of each sentence."""
    rows = sentences * beam_size
    emb, enc, hidden = config.embedding_size, config.encoder_size, config.decoder_hidden
    wide = _GATES[config.cell] * hidden
    reads_context = config.decoder == "feed" or config.attention == "none"
    recurrent = Product(rows, hidden, wide)
    upper = (Product(rows, hidden + enc, wide), recurrent) * (config.decoder_layers - 1)
    return {
        "bottom layer": (Product(rows, emb + (enc if reads_context else 0), wide), recurrent),
        "attention": _attention_products(config, sentences, beam_size, src_len),
        "upper layers": upper,
        "readout": (Product(rows, hidden + enc + emb, emb),),
        "output": (Product(rows, emb, config.target_vocab_size),),
    }


def _attention_products(
    config: ModelConfig, sentences: int, beam_size: int, src_len: int
) -> tuple[Product, ...]:
    if config.attention == "none":
        return ()
    rows, heads = sentences * beam_size, config.attention_heads
    enc, hidden = config.encoder_size, config.decoder_hidden
    count = sentences * heads
    context = Product(beam_size, src_len, enc // heads, count, weights=False)
    if config.attention == "additive":
        # The energy of a place is a product of its tanh, one row per query and place, with v.
        head_size = config.attention_size // heads
        energies = Product(rows * src_len, head_size, 1, heads, weights=False)
        return (Product(rows, hidden, config.attention_size), energies, context)
    energies = Product(beam_size, enc // heads, src_len, count, weights=False)
    if config.attention == "dot":
        return (energies, context)
    return (Product(rows, hidden, enc), energies, context)


def multiply_adds(products: Products) -> dict[Stage, int]:
    """By stage."""
    return {
        stage: sum(product.multiply_adds for product in parts) for stage, parts in products.items()
    }


def bytes_moved(products: Products, precision: str) -> int:
    """Of all stages, if nothing but the products' operands and results moved."""
    return sum(product.bytes_moved(precision) for parts in products.values() for product in parts)


@dataclass(frozen=True)
class Lengths:
    """Of one translated segment, in pieces; both include EOS."""

    source: int
    target: int


def translation_multiply_adds(
    config: ModelConfig, segments: Sequence[Lengths], beam_size: int
) -> dict[Stage, int]:
    """What these segments need, by stage: each is read once, then one step per target token.

    Steps after the end of the best hypothesis, padding and idle rows are no work: they lower the
    share.
    """
    total: Counter[Stage] = Counter()
    for lengths, count in Counter(segments).items():
        read = encoder_products(config, sentences=count, src_len=lengths.source)
        total.update(multiply_adds(read))
        step = step_products(config, sentences=count, beam_size=beam_size, src_len=lengths.source)
        for stage, amount in multiply_adds(step).items():
            total[stage] += amount * lengths.target
    return dict(total)
