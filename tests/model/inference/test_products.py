"""Products in every number format are right, and a row is independent of the other rows."""

import pytest
import torch

from model.inference import products
from model.inference.products import (
    FloatProduct,
    Int8Product,
    ProductPrecision,
    fastest_precision,
    int8_failure,
    pack,
)

needs_int8 = pytest.mark.skipif(int8_failure() is not None, reason=f"no int8: {int8_failure()}")


def numbers(rows: int, columns: int, *, seed: int = 0, bound: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return bound * (2 * torch.rand(rows, columns, generator=generator) - 1)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_a_float_product_is_a_linear_layer(precision: ProductPrecision, tolerance: float) -> None:
    weight, bias, inputs = numbers(6, 20), numbers(1, 6, seed=1)[0], numbers(4, 20, seed=2)
    found = pack(weight, bias, precision)(inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, inputs @ weight.T + bias, atol=tolerance, rtol=tolerance)


@needs_int8
def test_int8_is_the_product_of_rounded_numbers() -> None:
    weight, bias, inputs = numbers(24, 40, bound=3.0), numbers(1, 24)[0], numbers(9, 40, bound=2.0)
    scales = weight.abs().amax(dim=1) / 127
    rounded_weight = (weight / scales[:, None]).round() * scales[:, None]
    step = 2.0 / 127
    rounded_inputs = (inputs / step + 0.5).floor() * step
    found = Int8Product(weight, bias, bound=2.0)(inputs)
    torch.testing.assert_close(
        found, rounded_inputs @ rounded_weight.T + bias, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(found, inputs @ weight.T + bias, atol=0.4, rtol=0)


@needs_int8
def test_int8_without_bias_and_with_rows_of_zeros() -> None:
    weight = torch.cat([torch.zeros(2, 8), numbers(3, 8)])
    found = Int8Product(weight, None)(numbers(4, 8))
    assert torch.equal(found[:, :2], torch.zeros(4, 2))
    assert found[:, 2:].abs().min() > 0


@needs_int8
def test_int8_clips_inputs_beyond_its_range() -> None:
    product = Int8Product(torch.eye(4), None, bound=1.0, clip=True)
    found = product(torch.tensor([[5.0, -5.0, 1.0, 0.5]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0, 1.0, 0.5]]), atol=0.01, rtol=0)


@needs_int8
@pytest.mark.parametrize("size", [(512, 384), (36, 20)], ids=str)
def test_an_int8_row_does_not_depend_on_the_other_rows(size: tuple[int, int]) -> None:
    product = Int8Product(numbers(*size), numbers(1, size[0])[0])
    inputs = numbers(80, size[1], seed=3)
    together = product(inputs)
    for rows in (1, 2, 3, 5, 7, 8, 11, 40):
        assert torch.equal(product(inputs[rows : 2 * rows]), together[rows : 2 * rows])


def test_a_machine_whose_products_are_wrong_has_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflowing(FloatProduct):
        def __init__(self, weight: torch.Tensor, bias: None) -> None:
            super().__init__(weight / 2, bias, torch.float32)

    monkeypatch.setattr(products, "Int8Product", Overflowing)
    int8_failure.cache_clear()
    try:
        assert int8_failure() == "this processor's 8-bit products overflow"
    finally:
        int8_failure.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "failure", "fastest"),
    [
        ({"fp32": 1.0, "int8": 0.8}, None, "fp32"),  # not worth the rounding
        ({"fp32": 1.0, "int8": 0.2}, None, "int8"),
        ({"fp32": 1.0}, "8-bit products overflow", "fp32"),
    ],
)
def test_int8_is_chosen_if_it_is_clearly_faster(
    seconds: dict[str, float], failure: str | None, fastest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_seconds", lambda precision: seconds[precision])
    monkeypatch.setattr(products, "int8_failure", lambda: failure)
    products._fastest_precision.cache_clear()
    try:
        assert fastest_precision() == fastest
    finally:
        products._fastest_precision.cache_clear()
