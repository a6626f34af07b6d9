"""Networks, engines and requests for tests of the search."""

import random
from typing import Any

import torch

from model.decoding.engine import Engine
from model.decoding.request import SegmentRequest
from model.decoding.search_config import Hypothesis, SearchConfig
from model.inference.packed_network import PackedNetwork
from model.inference.products import ProductPrecision
from model.inference.shortlist import Shortlist
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import EOS
from tests.model.decoding.reference_search import TableNetwork
from tests.networks import build

VOCAB = 50
NETWORKS: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": "lstm", "attention": "general", "attention_heads": 2},
    {"cell": "lstm", "decoder": "feed", "decoder_layers": 2, "encoder_layers": 2, "residual": True},
    {"cell": "gru", "decoder": "feed", "attention": "dot"},
    {"cell": "rnn", "attention": "none", "layer_norm": True},
    {"cell": "lstm", "bidirectional": False, "reverse_source": True},
]


def network_of(choices: dict[str, Any], *, wide: bool = False) -> Seq2Seq:
    """Returns a network of random weights with outputs of different lengths. wide: usual sizes."""
    sizes = {"embedding_size": 24, "encoder_hidden": 32, "decoder_hidden": 64, "attention_size": 32}
    if wide:
        sizes = dict.fromkeys(sizes, 256) | {"encoder_hidden": 128}
    vocab = 2000 if wide else VOCAB
    network = build(
        **sizes | choices, source_vocab_size=vocab, target_vocab_size=vocab, tied_embeddings="all"
    )
    with torch.no_grad():
        if wide:  # `build` scatters weights for small sizes
            for parameter in network.parameters():
                parameter.mul_(0.2)
        network.output.bias[EOS] += 0.2 if wide else 1.0
    return network


def source(randomly: random.Random, longest: int = 20, vocab: int = VOCAB) -> list[int]:
    return [randomly.randrange(EOS + 1, vocab) for _ in range(randomly.randint(1, longest))]


def run(engine: Engine, requests: list[SegmentRequest]) -> dict[int, tuple[Hypothesis, ...]]:
    for request in requests:
        engine.submit(request)
    found = {}
    while not engine.idle:
        found.update({done.request_id: done.hypotheses for done in engine.step()})
    return found


def engine_of(
    network: Seq2Seq | PackedNetwork, precision: ProductPrecision = "fp32", **limits: Any
) -> Engine:
    """Returns an engine; packing takes long, so a test with several engines packs once."""
    if isinstance(network, TableNetwork | PackedNetwork):
        return Engine(network, **limits)
    return Engine(PackedNetwork(network, precision), **limits)


def translate(
    network: Seq2Seq | PackedNetwork, source_ids: list[int], **settings: Any
) -> tuple[Hypothesis, ...]:
    request = SegmentRequest(7, source_ids, SearchConfig(**settings), attention=True)
    return run(engine_of(network), [request])[7]


def some_shortlist(vocab: int) -> Shortlist:
    """Returns a shortlist: half of the vocabulary per source piece, and a few pieces for all."""
    generator = torch.Generator().manual_seed(0)
    by_source = torch.randint(4, vocab, (vocab, 6), generator=generator, dtype=torch.int32)
    return Shortlist(by_source, torch.arange(4, 9, dtype=torch.int32))
