"""Settings, the length penalty, and one step of pruning by hand."""

import math

import pytest
import torch

from model.config import SearchDefaults
from model.decoding.beam_search import SearchState, advance
from model.decoding.search_config import SearchConfig, length_penalty
from model.errors import ConfigError
from model.text.tokenizer import BOS, EOS, PAD, UNK

A, B, C = EOS + 1, EOS + 2, EOS + 3
VOCAB = C + 1


def logits(*rows: dict[int, float]) -> torch.Tensor:
    """Returns natural logs of probabilities; pieces that are not given share the rest evenly."""
    table = []
    for row in rows:
        rest = (1 - sum(row.values())) / (VOCAB - len(row))
        table.append([math.log(row.get(piece, rest)) for piece in range(VOCAB)])
    return torch.tensor(table)


def test_length_penalty_by_hand() -> None:
    assert length_penalty(1, 0.7) == 1.0
    assert length_penalty(7, 1.0) == 2.0
    assert length_penalty(19, 0.5) == 2.0
    assert length_penalty(40, 0.0) == 1.0


def test_the_defaults_are_those_of_a_checkpoint() -> None:
    assert SearchConfig() == SearchConfig(**SearchDefaults().model_dump())


def test_lengths_follow_the_source() -> None:
    config = SearchConfig(min_length_ratio=0.5, max_length_ratio=1.5, max_length_extra=3)
    assert config.max_length(7) == 13
    assert config.min_length(7) == 4
    assert SearchConfig(max_length_ratio=0.1, max_length_extra=0).max_length(3) == 1
    assert (
        SearchConfig(min_length_ratio=1.1, max_length_ratio=1.1, max_length_extra=0).min_length(3)
        == 3
    )  # never above the maximum


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"beam_size": 0}, "beam_size is 0"),
        ({"n_best": 6}, "n_best is 6"),
        ({"n_best": 0}, "n_best is 0"),
        ({"length_penalty": -0.1}, "length_penalty is -0.1"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"max_length_ratio": math.inf}, "max_length_ratio is inf"),
        ({"max_length_extra": -1}, "max_length_extra is -1"),
        ({"min_length_ratio": 3.0}, "min_length_ratio is 3.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], culprit: str) -> None:
    with pytest.raises(ConfigError, match=culprit):
        SearchConfig(**settings)  # type: ignore[arg-type]


def test_two_steps_of_pruning_by_hand() -> None:
    state = SearchState.start([SearchConfig(beam_size=2, n_best=2)], [5])
    first = {A: 0.5, B: 0.3, EOS: 0.1}
    state, choice = advance(logits(first, first), state)
    assert choice.token_ids.tolist() == [[A, B]]
    assert choice.parents.tolist() == [[0, 0]]
    assert state.num_ended.tolist() == [0]  # 0.1 is the third best

    state, choice = advance(logits({A: 0.1, C: 0.5, EOS: 0.3}, {C: 0.6, EOS: 0.2}), state)
    # 0.25 = A C, 0.18 = B C, 0.15 = A EOS, 0.06 = B EOS
    assert choice.token_ids.tolist() == [[C, C]]
    assert choice.parents.tolist() == [[0, 1]]
    torch.testing.assert_close(state.log_probs.exp(), torch.tensor([[0.25, 0.18]]))
    assert state.num_ended.tolist() == [0]

    state, choice = advance(logits({A: 0.2, EOS: 0.7}, {B: 0.9, EOS: 0.05}), state)
    # 0.175 = A C EOS ends; 0.162 = B C B and 0.05 = A C A go on
    assert choice.token_ids.tolist() == [[B, A]]
    assert choice.parents.tolist() == [[1, 0]]
    assert state.num_ended.tolist() == [1]
    torch.testing.assert_close(state.ended_log_probs[0, 0].exp(), torch.tensor(0.175))
    torch.testing.assert_close(state.ended_final_log_probs[0, 0].exp(), torch.tensor(0.7))
    torch.testing.assert_close(state.ended_scores[0, 0], torch.tensor(math.log(0.175) / (8 / 6)))
    assert state.ended_lengths[0, 0] == 3
    assert state.ended_parents[0, 0] == 0
    assert not state.settled().item()


def test_special_pieces_are_never_chosen() -> None:
    state = SearchState.start([SearchConfig(beam_size=3, n_best=1)], [5])
    row = {PAD: 0.3, UNK: 0.3, BOS: 0.3, EOS: 0.01}
    _, choice = advance(logits(row, row, row), state)
    assert set(choice.token_ids.flatten().tolist()) == {A, B, C}


def test_no_end_before_the_minimum_length() -> None:
    config = SearchConfig(beam_size=1, min_length_ratio=0.5)
    state = SearchState.start([config, SearchConfig(beam_size=1)], [4, 4])
    ends = {EOS: 0.9}
    state, _ = advance(logits(ends, ends), state)
    assert state.num_ended.tolist() == [0, 1]
    state, _ = advance(logits(ends, ends), state)
    assert state.num_ended.tolist() == [1, 2]


def test_the_end_wins_a_tie() -> None:
    state = SearchState.start([SearchConfig(beam_size=1)], [4])
    state, _ = advance(torch.zeros(1, VOCAB), state)
    assert state.num_ended.tolist() == [1]


def test_settled_once_nothing_can_win() -> None:
    # With alpha 0 a live hypothesis can only lose: one that is behind already never wins.
    config = SearchConfig(beam_size=2, length_penalty=0.0)
    patient = SearchConfig(beam_size=2, length_penalty=1.0)
    state = SearchState.start([config, patient], [5, 5])
    row = {EOS: 0.6, A: 0.3}
    state, _ = advance(logits(row, row, row, row), state)
    # max_length 20: log 0.3 / (25 / 6) = -0.29 is still above log 0.6 = -0.51
    assert state.settled().tolist() == [True, False]


def test_settled_at_the_length_limit() -> None:
    config = SearchConfig(beam_size=2, max_length_ratio=0.0, max_length_extra=1)
    state = SearchState.start([config], [5])
    row = {A: 0.6, B: 0.3}
    state, _ = advance(logits(row, row), state)
    assert state.settled().item()
    assert state.num_ended.tolist() == [0]
