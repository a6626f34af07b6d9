"""Batches of token ids: padding, lengths and masks."""

import pytest
import torch

from model.network.batch import SourceBatch, pad
from model.text.tokenizer import EOS, PAD, UNK


def test_shorter_sources_are_padded_at_their_end() -> None:
    batch = SourceBatch.from_ids([[5, 6, EOS], [7, EOS], [EOS]])
    assert batch.token_ids.tolist() == [[5, 6, EOS], [7, EOS, PAD], [EOS, PAD, PAD]]
    assert batch.lengths.tolist() == [3, 2, 1]
    assert batch.mask.tolist() == [[True, True, True], [True, True, False], [True, False, False]]


@pytest.mark.parametrize(("multiple", "length"), [(1, 5), (4, 8), (5, 5), (16, 16)])
def test_the_length_is_rounded_up_to_a_multiple(multiple: int, length: int) -> None:
    batch = SourceBatch.from_ids([[5, 6, 7, 8, EOS], [9, EOS]], pad_to_multiple=multiple)
    assert batch.token_ids.shape == (2, length)
    assert batch.lengths.tolist() == [5, 2]
    assert batch.mask.sum().item() == 7


def test_from_padded_reads_the_lengths_off_the_padding() -> None:
    padded = torch.tensor([[5, UNK, EOS, PAD], [6, 7, 8, EOS]])
    batch = SourceBatch.from_padded(padded)
    assert batch.token_ids is padded
    assert batch.lengths.tolist() == [3, 4]
    assert batch.mask[0].tolist() == [True, True, True, False]


def test_pad_takes_any_sequences_and_gives_whole_numbers() -> None:
    padded = pad([(5, 6), range(3, 6)])
    assert padded.dtype == torch.long
    assert padded.tolist() == [[5, 6, PAD], [3, 4, 5]]
