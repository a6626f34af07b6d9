"""Label-smoothed cross-entropy per target token, computed in chunks to save memory.

The output layer is the widest of the network: for a batch of 4,000 tokens and 8,000 pieces the
logits and their gradient would take 256 MB. They are computed in chunks. Because the loss is a sum,
the gradient of a chunk is computed at once, while its logits are still in the processor's cache.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

CHUNK_TOKENS = 256  # fastest of 64 to 2,048 on two CPU cores, 4,000 and 8,000 pieces


@dataclass(frozen=True)
class Loss:
    """Loss of a batch, summed over target tokens; divide by their number to compare batches."""

    smoothed: Float[Tensor, ""]  # what training minimises
    negative_log_prob: Float[Tensor, ""]  # natural log, without smoothing; no gradient


def cross_entropy(
    readouts: Float[Tensor, "tokens emb"],
    output: nn.Linear,
    target_ids: Int[Tensor, " tokens"],
    label_smoothing: float,
) -> Loss:
    """Returns the label-smoothed loss, s being label_smoothing.

    (1 - s) * -log p(target) + s * mean over all pieces of -log p: Szegedy et al. (2016).
    """
    smoothed, negative_log_prob = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        readouts,
        output.weight,
        output.bias,
        target_ids,
        label_smoothing,
        torch.is_grad_enabled(),  # always False inside `forward`
    )
    return Loss(smoothed, negative_log_prob)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        readouts: Tensor,
        weight: Tensor,
        bias: Tensor,
        target_ids: Tensor,
        label_smoothing: float,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor]:
        device = readouts.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weight.dtype
        with torch.autocast(device, enabled=False):
            inputs, matrix = readouts.to(dtype), weight.to(dtype)
            needs_gradient = grad_enabled and any(ctx.needs_input_grad)
            grad_inputs = torch.empty_like(inputs)
            grad_weight = torch.zeros_like(weight)
            grad_bias = torch.zeros_like(bias)
            smoothed = readouts.new_zeros((), dtype=torch.float32)
            negative = readouts.new_zeros((), dtype=torch.float32)
            for start in range(0, len(target_ids), CHUNK_TOKENS):
                chunk = slice(start, start + CHUNK_TOKENS)
                targets = target_ids[chunk].unsqueeze(1)
                logits = functional.linear(inputs[chunk], matrix).float() + bias
                log_normaliser = logits.logsumexp(dim=1, keepdim=True)
                negatives = (log_normaliser - logits.gather(1, targets)).sum()
                uniform = (log_normaliser.squeeze(1) - logits.mean(dim=1)).sum()
                negative += negatives
                smoothed += (1 - label_smoothing) * negatives + label_smoothing * uniform
                if needs_gradient:
                    # d loss / d logits = p - smoothed one-hot; overwrites the logits
                    gradient = logits.sub_(log_normaliser).exp_()
                    gradient -= label_smoothing / weight.shape[0]
                    gradient.scatter_add_(
                        1, targets, torch.full_like(log_normaliser, label_smoothing - 1)
                    )
                    grad_bias += gradient.sum(dim=0)
                    gradient = gradient.to(dtype)
                    torch.mm(gradient, matrix, out=grad_inputs[chunk])
                    grad_weight += gradient.t() @ inputs[chunk]
        if needs_gradient:
            ctx.save_for_backward(grad_inputs.to(readouts.dtype), grad_weight, grad_bias)
        ctx.mark_non_differentiable(negative)
        return smoothed, negative

    @staticmethod
    def backward(ctx: Any, grad_smoothed: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_inputs, grad_weight, grad_bias = ctx.saved_tensors
        return (
            grad_inputs * grad_smoothed,
            grad_weight * grad_smoothed,
            grad_bias * grad_smoothed,
            None,
            None,
            None,
        )
