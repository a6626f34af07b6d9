"""Tests that batches hold every pair once, stay within the budget, and depend on the seed."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.text.tokenizer import BOS, EOS, PAD
from training.data.token_store import TokenStore, write_token_store
from training.loop import batching
from training.loop.batching import collate, epoch_batches, read_batch


def fill(folder: Path, lengths: list[tuple[int, int]], weights: list[float]) -> TokenStore:
    """Writes pairs of the given lengths; pair n consists of n + 10, corpus n % corpora."""
    with write_token_store(
        folder, source_vocab_size=5000, target_vocab_size=5000, weights=weights
    ) as writer:
        for number, (source, target) in enumerate(lengths):
            writer.append([number + 10] * source, [number + 10] * target, number % len(weights))
    return TokenStore.open(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    random = np.random.default_rng(0)
    lengths = [(int(s), int(t)) for s, t in random.integers(1, 40, (500, 2))]
    return fill(tmp_path_factory.mktemp("stores") / "store", lengths, [1.0])


def pair_numbers(batches: list[NDArray[np.int64]]) -> list[int]:
    return [int(pair) for batch in batches for pair in batch]


def content(batches: list[NDArray[np.int64]]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@pytest.mark.parametrize("batch_tokens", [40, 100, 1000, 10**6])
def test_every_pair_occurs_once_and_batches_stay_within_the_budget(
    store: TokenStore, batch_tokens: int
) -> None:
    batches = epoch_batches(store, batch_tokens=batch_tokens, seed=1, epoch=0)
    assert sorted(pair_numbers(batches)) == list(range(500))
    for batch in batches:
        longest = max(store.source_lengths[batch].max(), store.target_lengths[batch].max()) + 1
        assert len(batch) * longest <= batch_tokens
    # Not far below the budget either: as many batches as the tokens need, and half as many again.
    needed = np.maximum(store.source_lengths, store.target_lengths).sum() / batch_tokens
    assert len(batches) <= 1.5 * needed + 2 or batch_tokens == 40


def test_a_pair_above_the_budget_gets_its_own_batch(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", [(1, 1), (99, 3), (1, 1), (3, 99)], [1.0])
    batches = epoch_batches(store, batch_tokens=10, seed=1, epoch=0)
    assert sorted(sorted(batch.tolist()) for batch in batches) == [[0, 2], [1], [3]]


def slowly(store: TokenStore, batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Computes the same batches in a slow obvious way, pair by pair."""
    random = np.random.default_rng([seed, epoch])
    pairs = []
    for pair in range(len(store)):
        weight = store.weights[store.corpus_index[pair]]
        if any(other != 1.0 for other in store.weights):
            weight = int(weight) + (random.random() < weight - int(weight))
        pairs += [pair] * int(weight)
    shuffled = np.array(pairs)
    random.shuffle(shuffled)
    lengths = {
        pair: (int(store.target_lengths[pair]) + 1, int(store.source_lengths[pair]) + 1)
        for pair in pairs
    }
    batches: list[list[int]] = []
    for pair in sorted(shuffled.tolist(), key=lengths.__getitem__):
        together = [*batches[-1], pair] if batches else []
        if together and len(together) * max(max(lengths[p]) for p in together) <= batch_tokens:
            batches[-1].append(pair)
        else:
            batches.append([pair])
    random.shuffle(batches)
    return batches


@pytest.mark.parametrize("weights", [[1.0], [2.0, 0.5, 1.0]])
@pytest.mark.parametrize("batch_tokens", [1, 30, 300, 10**5])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_batches_equal_those_of_the_slow_obvious_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: list[float],
    batch_tokens: int,
    block: int,
) -> None:
    monkeypatch.setattr(batching, "_BLOCK_PAIRS", block)
    random = np.random.default_rng(1)
    lengths = [(int(s), int(t)) for s, t in random.integers(0, 12, (150, 2))]
    store = fill(tmp_path / "store", lengths, weights)
    for epoch in range(2):
        batches = epoch_batches(store, batch_tokens=batch_tokens, seed=5, epoch=epoch)
        assert content(batches) == slowly(store, batch_tokens, seed=5, epoch=epoch)


def test_sentences_beyond_65535_tokens_are_batched(tmp_path: Path) -> None:
    with write_token_store(
        tmp_path / "store",
        source_vocab_size=100,
        target_vocab_size=100,
        weights=[1.0],
        max_tokens=100_000,
    ) as writer:
        for length in (70_000, 1, 65_535, 2):
            writer.append([7] * length, [8], 0)
    store = TokenStore.open(tmp_path / "store")
    assert store.source_lengths.tolist() == [70_000, 1, 65_535, 2]
    batches = epoch_batches(store, batch_tokens=140_002, seed=1, epoch=0)
    assert sorted(sorted(batch) for batch in content(batches)) == [[0, 2], [1, 3]]


def test_a_batch_holds_targets_of_similar_length(store: TokenStore) -> None:
    batches = epoch_batches(store, batch_tokens=400, seed=1, epoch=0)
    spread = [np.ptp(store.target_lengths[batch]) for batch in batches]
    assert np.mean(spread) <= 1.5


def test_the_order_depends_on_seed_and_epoch(store: TokenStore) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return content(epoch_batches(store, batch_tokens=300, seed=seed, epoch=epoch))

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(2, 3)
    assert order(1, 3) != order(1, 4)
    assert order(1, 2) != order(2, 1)


def test_pairs_get_other_neighbours_every_epoch(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", [(4, 4)] * 100, [1.0])
    groups = [
        {
            frozenset(batch)
            for batch in content(epoch_batches(store, batch_tokens=50, seed=1, epoch=e))
        }
        for e in (0, 1)
    ]
    assert len(groups[0] & groups[1]) <= 1


def test_batches_are_not_sorted_by_length(store: TokenStore) -> None:
    batches = epoch_batches(store, batch_tokens=300, seed=1, epoch=0)
    longest = [int(store.target_lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_a_weight_is_the_mean_number_of_occurrences(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", [(3, 3)] * 300, [2.0, 0.5, 1.0])
    counts = np.zeros(300, dtype=int)
    for epoch in range(40):
        numbers = pair_numbers(epoch_batches(store, batch_tokens=100, seed=1, epoch=epoch))
        once = np.bincount(numbers, minlength=300)
        assert (once[0::3] == 2).all()  # a whole weight is exact
        assert (once[2::3] == 1).all()
        assert once[1::3].max() <= 1
        counts += once
    half = counts[1::3] / 40  # 40 throws of a coin each: 0.5 +- 0.08
    assert 0.48 < half.mean() < 0.52
    assert half.min() > 0.1
    assert half.max() < 0.9


def test_bos_eos_and_pad_are_at_the_right_positions() -> None:
    batch = collate([[5, 6, 7], [8]], [[9], [10, 11]])
    assert batch.source.token_ids.tolist() == [[5, 6, 7, EOS], [8, EOS, PAD, PAD]]
    assert batch.source.lengths.tolist() == [4, 2]
    assert batch.source.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.target_input.tolist() == [[BOS, 9, PAD], [BOS, 10, 11]]
    assert batch.target_output.tolist() == [[9, EOS, PAD], [10, 11, EOS]]
    assert batch.num_target_tokens == 5


def test_an_empty_side_is_only_eos() -> None:
    batch = collate([[], [5]], [[6], []])
    assert batch.source.token_ids.tolist() == [[EOS, PAD], [5, EOS]]
    assert batch.target_input.tolist() == [[BOS, 6], [BOS, PAD]]
    assert batch.target_output.tolist() == [[6, EOS], [EOS, PAD]]
    assert batch.num_target_tokens == 3


def test_a_batch_is_read_from_the_store(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", [(2, 1), (1, 3)], [1.0])
    batch = read_batch(store, np.array([1, 0]))
    assert batch.source.token_ids.tolist() == [[11, EOS, PAD], [10, 10, EOS]]
    assert batch.target_output.tolist() == [[11, 11, 11, EOS], [10, EOS, PAD, PAD]]


def test_lengths_are_rounded_up_to_the_multiple() -> None:
    plain, rounded = (
        collate([[5, 6, 7], [8]], [[9], [10, 11]], pad_to_multiple=multiple) for multiple in (1, 4)
    )
    assert rounded.source.token_ids.shape == (2, 4)  # three pieces and EOS
    assert rounded.target_input.shape == rounded.target_output.shape == (2, 4)
    assert rounded.target_output[:, :3].tolist() == plain.target_output.tolist()
    assert rounded.target_output[:, 3].tolist() == [PAD, PAD]
    assert rounded.target_input[1].tolist() == [BOS, 10, 11, PAD]
    assert rounded.num_target_tokens == plain.num_target_tokens
