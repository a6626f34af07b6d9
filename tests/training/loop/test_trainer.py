"""Tests updates of a tiny network: it learns, and a bad gradient changes nothing."""

import math
from pathlib import Path

import pytest
import torch

from model.network.batch import SourceBatch
from model.network.dropout import DropoutRates
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import BOS, EOS
from tests.slow_step import slow_step
from tests.training.loop.reversing import Run, config, digits, equal, poisoned
from training.data.token_store import TokenStore
from training.errors import DivergenceError
from training.loop.batching import PairBatch, collate
from training.loop.journal import read_log
from training.loop.state import load_progress


def greedy(trained: Seq2Seq, source: list[int]) -> list[int]:
    state = trained.encode(SourceBatch.from_ids([[*source, EOS]]))
    words = [BOS]
    while words[-1] != EOS and len(words) < 10:
        step = slow_step(trained, torch.tensor(words[-1:]), state)
        words.append(int(step.logits.argmax()))
        state = step.state
    return words[1:-1]


def pairs(count: int) -> PairBatch:
    strings = digits(count, seed=5)
    return collate(strings, [string[::-1] for string in strings])


@pytest.mark.usefixtures("quick")
def test_the_network_learns_to_reverse_digits(reversals: TokenStore, tmp_path: Path) -> None:
    settings = config(
        optimization={"max_epochs": 14, "learning_rate": 0.015, "warmup_steps": 20},
        validation={"every_steps": 10**6},
    )
    run = Run(tmp_path, settings)
    run.train(reversals)
    with torch.no_grad():
        trained = run.trainer.network.eval()
        unseen = digits(100, seed=99)
        right = sum(greedy(trained, string) == string[::-1] for string in unseen)
    assert right >= 90
    losses = [line["loss"] for line in read_log(tmp_path) if line["kind"] == "training"]
    assert losses[-1] < 0.2 < 2 < losses[0]


def test_the_same_seed_gives_the_same_weights(reversals: TokenStore, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        rates = DropoutRates(embedding=0.2, source_word=0.1)
        run = Run(tmp_path / name, config(seed=seed), seed, rates=rates)
        run.train(reversals)
        found.append(run.weights())
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_halves_accumulated_equal_one_batch(tmp_path: Path, smoothing: float) -> None:
    settings = config(optimization={"label_smoothing": smoothing, "clip_norm": 0.5})
    strings = digits(12, seed=5)
    backward = [string[::-1] for string in strings]
    whole = Run(tmp_path, settings)
    update = whole.trainer.update([collate(strings, backward)])
    halves = Run(tmp_path, settings)
    # Unequal halves: each counts by its tokens, not as one half.
    shares = [collate(strings[:3], backward[:3]), collate(strings[3:], backward[3:])]
    shared = halves.trainer.update(shares)
    assert shared.target_tokens == update.target_tokens
    assert shared.gradient_norm == pytest.approx(update.gradient_norm, rel=1e-4)
    assert shared.smoothed_loss == pytest.approx(update.smoothed_loss, rel=1e-5)
    # Adam's first step is the sign of the gradient; compare the gradient itself, in its moments.
    for one, other in zip(whole.weights_and_moments(), halves.weights_and_moments(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_accumulation_makes_fewer_updates_of_more_tokens(
    reversals: TokenStore, tmp_path: Path
) -> None:
    places = []
    for name, accumulate in (("a", 1), ("b", 3)):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name, config(optimization={"accumulate": accumulate}))
        run.train(reversals)
        places.append(run.trainer.progress)
    single, three = places
    per_epoch = single.step // 2
    assert three.step == 2 * math.ceil(per_epoch / 3)
    assert (
        three.target_tokens
        == single.target_tokens
        == 2 * int((reversals.target_lengths + 1).sum(dtype=int))
    )


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    run = Run(tmp_path, config(optimization={"clip_norm": 1e-3, "beta2": 0.5}))
    update = run.trainer.update([pairs(12)])
    assert update.gradient_norm > 0.1  # reported as it was before clipping
    moments = [run.trainer.optimizer.state[p]["exp_avg"] for p in run.trainer.network.parameters()]
    norm = torch.cat([moment.flatten() for moment in moments]).norm().item()
    assert norm == pytest.approx(1e-3 * 0.1, rel=1e-3)  # beta1 0.9: a tenth of the gradient


def test_a_gradient_of_nan_changes_no_weight(tmp_path: Path) -> None:
    run = Run(tmp_path, config())
    run.trainer.update([pairs(12)])
    before = run.weights_and_moments()
    with poisoned(run.trainer, lambda step: True):
        update = run.trainer.update([pairs(12)])
    assert math.isnan(update.gradient_norm)
    assert equal(run.weights_and_moments(), before)
    assert all(p.grad is None for p in run.trainer.network.parameters())


def test_weights_that_exploded_are_not_saved(tmp_path: Path) -> None:
    run = Run(tmp_path, config())
    run.trainer.save()
    with torch.no_grad():
        run.trainer.network.output.bias[3] = math.inf
    run.trainer.progress.step = 5
    with pytest.raises(DivergenceError, match="not a number at step 5"):
        run.trainer.save()
    assert load_progress(tmp_path / "states" / "last.safetensors").step == 0


def test_training_in_bf16_works(reversals: TokenStore, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        (tmp_path / precision).mkdir()
        settings = config(optimization={"precision": precision, "max_steps": 40, "max_epochs": 9})
        run = Run(tmp_path / precision, settings)
        run.train(reversals)
        losses[precision] = read_log(tmp_path / precision)[-2]["loss"]
        assert all(weight.dtype == torch.float32 for weight in run.weights())
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05)
