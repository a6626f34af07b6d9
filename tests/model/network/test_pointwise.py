"""Sigmoid and tanh, computed in place."""

import pytest
import torch

from model.network.pointwise import sigmoid_, tanh_of_half_


@pytest.mark.parametrize("size", [7, 64])
def test_sigmoid_and_tanh_equal_torch(size: int) -> None:
    values = torch.linspace(-30, 30, 3 * size).view(3, size)
    torch.testing.assert_close(sigmoid_(values.clone()), torch.sigmoid(values))
    torch.testing.assert_close(tanh_of_half_(2 * values), torch.tanh(values), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [5, 32, 50])
def test_a_result_does_not_depend_on_its_position(size: int) -> None:
    values = torch.randn(64, size, generator=torch.Generator().manual_seed(0))
    together = sigmoid_(values.clone())
    for rows in range(1, 64):
        assert torch.equal(sigmoid_(values[:rows].clone()), together[:rows])
