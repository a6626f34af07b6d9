"""The whole network in every combination of settings, computed in different ways."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from model.config import ModelConfig
from model.network.batch import SourceBatch
from model.network.dropout import DropoutRates
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import BOS, EOS
from tests.networks import SMALL, VOCAB, build, combinations, name
from tests.slow_step import slow_step

SOURCES = [[5, 6, 7, 8, EOS], [9, EOS], [10, 11, 12, EOS]]
TARGETS = torch.tensor([[BOS, 4, 5, 6], [BOS, 7, 8, 9], [BOS, 10, 11, 12]])
everything = pytest.mark.parametrize("choices", list(combinations()), ids=name)


def step_by_step(network: Seq2Seq, sources: list[list[int]], targets: torch.Tensor) -> torch.Tensor:
    state = network.encode(SourceBatch.from_ids(sources))
    logits = []
    for previous in targets.unbind(dim=1):
        output = slow_step(network, previous, state)
        logits.append(output.logits)
        state = output.state
    return torch.stack(logits, dim=1)


@everything
def test_teacher_forcing_equals_step_by_step(choices: dict[str, Any]) -> None:
    network = build(**choices)
    with torch.no_grad():
        forced = network(SourceBatch.from_ids(SOURCES), TARGETS).log_softmax(-1)
        stepped = step_by_step(network, SOURCES, TARGETS).log_softmax(-1)
    torch.testing.assert_close(forced, stepped, atol=1e-5, rtol=1e-5)


@everything
def test_padding_changes_nothing(choices: dict[str, Any]) -> None:
    network = build(**choices)
    with torch.no_grad():
        together = network(SourceBatch.from_ids(SOURCES, pad_to_multiple=16), TARGETS)
        for row, source in enumerate(SOURCES):
            alone = network(SourceBatch.from_ids([source]), TARGETS[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@everything
def test_every_parameter_gets_a_gradient(choices: dict[str, Any]) -> None:
    network = build(**choices, rates=DropoutRates(0.1, 0.1, 0.1, 0.1, 0.1)).train()
    logits = network(SourceBatch.from_ids(SOURCES), TARGETS)
    (logits.log_softmax(-1) * torch.randn_like(logits)).sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@everything
def test_later_target_words_do_not_change_earlier_logits(choices: dict[str, Any]) -> None:
    network = build(**choices)
    changed = TARGETS.clone()
    changed[:, 3] = 4
    with torch.no_grad():
        before = network(SourceBatch.from_ids(SOURCES), TARGETS)
        after = network(SourceBatch.from_ids(SOURCES), changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


@everything
def test_every_source_word_matters(choices: dict[str, Any]) -> None:
    network = build(**choices)
    with torch.no_grad():
        before = network(SourceBatch.from_ids([[5, 6, 7, 8, EOS]]), TARGETS[:1])
        for place in range(4):
            changed = [5, 6, 7, 8, EOS]
            changed[place] = 12
            after = network(SourceBatch.from_ids([changed]), TARGETS[:1])
            assert not torch.equal(before, after), f"source place {place} is not read"


@everything
def test_attention_is_a_distribution_over_real_tokens(choices: dict[str, Any]) -> None:
    network = build(**choices)
    with torch.no_grad():
        state = network.encode(SourceBatch.from_ids(SOURCES))
        output = slow_step(network, torch.full((3,), BOS), state)
    weights = output.attention_weights
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    assert (weights[~state.source.mask] == 0).all()
    assert (weights[state.source.mask] > 0).all()


@everything
def test_beams_share_their_source(choices: dict[str, Any]) -> None:
    network = build(**choices)
    rows = torch.tensor([0, 0, 1, 1, 2, 2])
    previous = torch.tensor([4, 5, 6, 7, 8, 9])
    with torch.no_grad():
        state = network.encode(SourceBatch.from_ids(SOURCES))
        beams = slow_step(network, previous, state.select(rows))
        for row, sentence in enumerate(rows.tolist()):
            alone = network.encode(SourceBatch.from_ids([SOURCES[sentence]]))
            expected = slow_step(network, previous[row : row + 1], alone)
            torch.testing.assert_close(beams.logits[row], expected.logits[0], atol=1e-5, rtol=1e-5)


@everything
def test_sentences_can_be_selected(choices: dict[str, Any]) -> None:
    network = build(**choices)
    previous = torch.tensor([4, 5, 6])
    order = torch.tensor([2, 0])
    with torch.no_grad():
        state = network.encode(SourceBatch.from_ids(SOURCES))
        together = slow_step(network, previous, state)
        parted = slow_step(network, previous[order], state.select(order).select_sentences(order))
    torch.testing.assert_close(parted.logits, together.logits[order], atol=1e-5, rtol=1e-5)


def test_a_one_way_reversed_encoder_reads_from_the_end() -> None:
    forwards = build(bidirectional=False, encoder_hidden=8)
    backwards = build(bidirectional=False, encoder_hidden=8, reverse_source=True)
    weights = {
        key.replace("forward_layers", "backward_layers"): value
        for key, value in forwards.state_dict().items()
    }
    backwards.load_state_dict(weights)
    with torch.no_grad():
        read_forwards = forwards.encode(SourceBatch.from_ids([[7, 6, 5]])).source
        read_backwards = backwards.encode(SourceBatch.from_ids([[5, 6, 7]])).source
    torch.testing.assert_close(read_forwards.values.flip(1), read_backwards.values)
    torch.testing.assert_close(read_forwards.summary, read_backwards.summary)


@pytest.mark.parametrize("kind", ["none", "target", "all"])
def test_tied_embeddings_are_one_matrix(kind: str) -> None:
    network = build(tied_embeddings=kind)
    source, target = network.encoder.embedding.weight, network.decoder.embedding.weight
    assert (network.output.weight is target) == (kind != "none")
    assert (source is target) == (kind == "all")


def test_two_vocabularies_of_different_size() -> None:
    network = build(source_vocab_size=20, tied_embeddings="target")
    with torch.no_grad():
        logits = network(SourceBatch.from_ids([[19, 18, EOS]]), TARGETS[:1])
    assert logits.shape == (1, 4, VOCAB)


def test_dropout_keeps_one_mask_along_time_and_stops_in_evaluation() -> None:
    torch.manual_seed(0)
    network = build(rates=DropoutRates(embedding=0.5)).train()
    ones = torch.ones(2, 7, 64)
    dropped = network.encoder.drop_embedding(ones)
    assert (dropped == dropped[:, :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0], dropped[1])
    assert network.eval().encoder.drop_embedding(ones) is ones


def test_word_dropout_takes_whole_words() -> None:
    torch.manual_seed(0)
    network = build(rates=DropoutRates(source_word=0.5)).train()
    dropped = network.encoder.drop_words(torch.ones(4, 50, 6))
    assert set(dropped.sum(-1).unique().tolist()) == {0.0, 6.0}


@pytest.mark.parametrize("residual", [True, False])
def test_residual_adds_the_layer_below(residual: bool) -> None:
    network = build(encoder_layers=2, residual=residual)
    encoder = network.encoder
    source = SourceBatch.from_ids([[5, 6, EOS]])
    with torch.no_grad():
        for layer in (encoder.forward_layers[1], encoder.backward_layers[1]):
            for parameter in layer.parameters():
                parameter.zero_()  # a GRU of zeros stays at zero
        states, _ = encoder(source)
    assert (states.abs().sum() > 0) == residual


def test_layer_norm_centres_every_state() -> None:
    network = build(layer_norm=True)
    norm = network.encoder.norms[0]
    assert isinstance(norm, torch.nn.LayerNorm)
    with torch.no_grad():
        norm.weight.fill_(1.0)
        norm.bias.zero_()
        states, _ = network.encoder(SourceBatch.from_ids([[5, 6, EOS]]))
    torch.testing.assert_close(states.mean(-1), torch.zeros(1, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(states.var(-1, unbiased=False), torch.ones(1, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("choices", "culprit"),
    [
        ({"reverse_source": True}, "reverse_source"),
        ({"attention": "dot", "decoder_hidden": 6}, "decoder_hidden"),
        ({"attention": "none", "attention_heads": 2}, "attention_heads"),
        ({"attention": "none", "decoder": "feed"}, "parallel"),
        ({"attention_heads": 3}, "attention_size"),
        ({"tied_embeddings": "all", "source_vocab_size": 20}, "13"),
        ({"cell": "lstn"}, "cell"),
        ({"depth": 3}, "depth"),
    ],
)
def test_impossible_combinations_are_refused_by_name(choices: dict[str, Any], culprit: str) -> None:
    with pytest.raises(ValidationError, match=culprit):
        ModelConfig(**{**SMALL, **choices})
