"""What a translation asks of the machine: against torch's own count, and by hand."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.config import ModelConfig
from model.network.batch import SourceBatch
from model.text.tokenizer import EOS
from service.bench.flops import (
    Lengths,
    Product,
    Stage,
    bytes_moved,
    encoder_products,
    multiply_adds,
    step_products,
    translation_multiply_adds,
)
from tests.networks import SMALL, build, combinations, name
from tests.slow_step import slow_step

SENTENCES, SRC_LEN, BEAM = 3, 5, 4


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # said when oneDNN is set aside
@pytest.mark.parametrize("choices", list(combinations()), ids=name)
def test_every_network_does_the_products_that_are_counted(choices: dict[str, Any]) -> None:
    network = build(**choices)
    source = SourceBatch.from_ids([[6] * (SRC_LEN - 1) + [EOS]] * SENTENCES)
    # Without oneDNN the layers are made of products that torch's counter sees.
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        with FlopCounterMode(display=False) as encoding:
            state = network.encode(source)
        rows = torch.arange(SENTENCES).repeat_interleave(BEAM)
        with FlopCounterMode(display=False) as stepping:
            slow_step(network, torch.full((SENTENCES * BEAM,), 6), state.select(rows))
    read = encoder_products(network.config, sentences=SENTENCES, src_len=SRC_LEN)
    step = step_products(network.config, sentences=SENTENCES, beam_size=BEAM, src_len=SRC_LEN)
    assert 2 * sum(multiply_adds(read).values()) == encoding.get_total_flops()
    more = stepping.get_total_flops() - 2 * sum(multiply_adds(step).values())
    # The energies of additive attention are counted once. They may also be summed elementwise,
    # which torch does not count, or in one product in which every head meets the others' zeros.
    additive = choices["attention"] == "additive"
    energies = 2 * SENTENCES * BEAM * SRC_LEN * network.config.attention_size * additive
    assert more in (0, -energies, (network.config.attention_heads - 1) * energies)


def test_the_stages_by_hand() -> None:
    config = ModelConfig(**{**SMALL, "attention_heads": 2, "decoder_layers": 3, "cell": "lstm"})
    # emb 6, enc 4 + 4, hidden 8, attention 8, vocabulary 13; 2 sentences of 5 tokens, beam 3
    step = step_products(config, sentences=2, beam_size=3, src_len=5)
    assert multiply_adds(step) == {
        "bottom layer": 6 * (6 + 8) * 4 * 8,
        "attention": 6 * (8 * 8 + 5 * 8 + 5 * 8),  # query, energies, context
        "upper layers": 2 * 6 * (8 + 8 + 8) * 4 * 8,
        "readout": 6 * (8 + 8 + 6) * 6,
        "output": 6 * 6 * 13,
    }
    read = encoder_products(config, sentences=2, src_len=5)
    layers, keys, states = 2 * 10 * (6 + 4) * 4 * 4, 10 * 8 * 8, 2 * 6 * 8 * 8
    assert multiply_adds(read) == {"encoder": layers + keys + states}


def test_a_translation_is_read_once_and_written_token_by_token() -> None:
    config = ModelConfig(**SMALL)
    segments = [Lengths(source=4, target=7), Lengths(source=9, target=2), Lengths(4, 7)]
    stages: tuple[Stage, ...] = ("encoder", "bottom layer", "attention", "output")
    expected = dict.fromkeys(stages, 0)
    for lengths in segments:
        parts = {
            **multiply_adds(encoder_products(config, sentences=1, src_len=lengths.source)),
            **{
                stage: lengths.target * amount
                for stage, amount in multiply_adds(
                    step_products(config, sentences=1, beam_size=5, src_len=lengths.source)
                ).items()
            },
        }
        for stage in expected:
            expected[stage] += parts[stage]
    found = translation_multiply_adds(config, segments, 5)
    assert {stage: found[stage] for stage in expected} == expected


def test_bytes_by_hand() -> None:
    weights = Product(rows=3, inner=5, columns=7)
    states = Product(rows=3, inner=5, columns=7, count=2, weights=False)
    operands, results = 3 * 5 + 5 * 7, 3 * 7
    assert weights.bytes_moved("fp32") == 4 * (operands + results)
    assert weights.bytes_moved("bf16") == 2 * (operands + results)
    assert weights.bytes_moved("int8") == operands + 4 * results
    assert states.bytes_moved("int8") == 2 * 4 * (operands + results)
    assert bytes_moved({"readout": (weights,), "attention": (states,)}, "bf16") == 3 * 2 * 71
