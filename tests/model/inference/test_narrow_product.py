"""A piece's score in a narrowed output layer: right, and independent of the other pieces."""

import functools

import pytest
import torch

from model.inference import narrow_product, products
from model.inference.narrow_product import NarrowProduct
from model.inference.products import FloatProduct


@pytest.fixture(autouse=True)
def tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = functools.cache(narrow_product._widths.__wrapped__)
    monkeypatch.setattr(narrow_product, "_widths", tried)
    monkeypatch.setattr(products, "_row_counts", {})


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def assert_pieces_are_independent() -> None:
    weight, rows = numbers(900, 24), numbers(12, 24, seed=1)
    scores = NarrowProduct(weight)(rows)[:, :900]
    torch.testing.assert_close(scores, rows @ weight.T)
    for first, last in ((0, 1), (3, 300), (700, 900)):
        few = NarrowProduct(weight[first:last])(rows[4:7])[:, : last - first]
        assert torch.equal(few, scores[4:7, first:last])


def test_a_piece_has_the_same_score_among_any_pieces() -> None:
    assert_pieces_are_independent()


def test_if_the_width_changes_results_parts_of_one_width_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    widths = set()

    class ByWidth(FloatProduct):
        def _multiply(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super()._multiply(inputs)
            widths.add(outputs.shape[1])
            return outputs + 1e-6 * outputs.shape[1]

    monkeypatch.setattr(narrow_product, "FloatProduct", ByWidth)
    weight, rows = numbers(900, 24), numbers(12, 24, seed=1)
    scores = NarrowProduct(weight)(rows)[:, :900]
    few = NarrowProduct(weight[300:310])(rows[4:7])[:, :10]
    assert torch.equal(few, scores[4:7, 300:310])
    assert widths == {256, 1024}  # 1,024 was tried


def test_if_the_position_changes_results_narrower_parts_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ByPlace(FloatProduct):
        def _multiply(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super()._multiply(inputs)
            return outputs + 1e-6 * (torch.arange(outputs.shape[1]) >= 16)

    monkeypatch.setattr(narrow_product, "FloatProduct", ByPlace)
    assert_pieces_are_independent()
    assert narrow_product._Widths(torch.float32, 24).block == 16
