"""Shortlists: the pieces that a sentence may use, and tensors that are refused."""

import pytest
import torch

from model.inference.shortlist import Shortlist
from model.text.tokenizer import EOS, PAD

BY_SOURCE = torch.tensor([[PAD, PAD]] * 5 + [[20, 30], [30, PAD], [10, 40]], dtype=torch.int32)
ALWAYS = torch.tensor([12, 11], dtype=torch.int32)


def test_a_sentence_gets_its_pieces_once_behind_the_end() -> None:
    shortlist = Shortlist(BY_SOURCE, ALWAYS)
    assert shortlist.choose([5, 6, 5]).tolist() == [EOS, 11, 12, 20, 30]
    assert shortlist.choose([7], wanted=[50, 10]).tolist() == [EOS, 10, 11, 12, 40, 50]
    assert shortlist.choose([0]).tolist() == [EOS, 11, 12]


def test_a_stored_list_can_be_read_again() -> None:
    tensors = Shortlist(BY_SOURCE, ALWAYS).tensors()
    again = Shortlist.from_tensors(tensors, source_vocab_size=8, target_vocab_size=41)
    assert again.choose([5]).tolist() == [EOS, 11, 12, 20, 30]


def test_merged_lists_allow_the_pieces_of_both() -> None:
    nothing = torch.zeros(0, dtype=torch.int32)
    other = Shortlist(torch.full((8, 1), 33, dtype=torch.int32), nothing)
    merged = Shortlist(BY_SOURCE, ALWAYS).merged(other)
    assert merged.choose([5]).tolist() == [EOS, 11, 12, 20, 30, 33]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"always": None}, "it holds by_source"),
        ({"always": ALWAYS[None]}, "shape"),
        ({"by_source": BY_SOURCE[:5]}, "shape"),
        ({"by_source": BY_SOURCE.long()}, "int32"),
        ({"always": torch.tensor([41], dtype=torch.int32)}, "outside the target vocabulary"),
        ({"by_source": -BY_SOURCE}, "outside the target vocabulary"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    change: dict[str, torch.Tensor | None], reason: str
) -> None:
    tensors = {"by_source": BY_SOURCE, "always": ALWAYS, **change}
    with pytest.raises(ValueError, match=reason):
        Shortlist.from_tensors(
            {key: value for key, value in tensors.items() if value is not None},
            source_vocab_size=8,
            target_vocab_size=41,
        )
