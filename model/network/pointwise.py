"""Sigmoid and tanh for translating: in place, by the fastest of torch's kernels.

On a CPU torch's sigmoid takes a tenth of the time of its tanh (38 and 374 microseconds for 164,000
numbers on one core of an AMD EPYC, torch 2.13). Therefore tanh(x) is computed as 2 sigmoid(2x) - 1,
and 2x costs nothing because weights are doubled beforehand.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_VECTOR = 32  # numbers; the most that torch's kernels process at once


def sigmoid_(values: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
    """Computes the sigmoid in place; a result does not depend on its position in the tensor.

    torch computes the last few numbers, fewer than a vector, in another way, and each thread has
    such an end.
    """
    if values.shape[-1] % _VECTOR == 0 and torch.get_num_threads() == 1:
        return values.sigmoid_()
    return values.neg_().exp_().add_(1.0).reciprocal_()


def tanh_of_half_(doubled: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
    """Computes tanh(x) in place, given 2x."""
    return sigmoid_(doubled).mul_(2.0).sub_(1.0)
