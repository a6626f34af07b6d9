"""Tests the order of portions for any start and any number of workers."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.loop import reversing
from training.config import ResolvedConfig
from training.data.token_store import TokenStore, write_token_store
from training.loop.batching import epoch_batches, read_batch
from training.loop.distributed import ALONE, World
from training.loop.read_ahead import Portion, portions, read_ahead
from training.loop.state import RunProgress

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """100 pairs; pair n consists of n + 10."""
    folder = tmp_path_factory.mktemp("stores") / "store"
    random = np.random.default_rng(0)
    with write_token_store(
        folder, source_vocab_size=500, target_vocab_size=500, weights=[1.0]
    ) as writer:
        for number, (source, target) in enumerate(random.integers(1, 12, (100, 2))):
            writer.append([number + 10] * source, [number + 10] * target, 0)
    return TokenStore.open(folder)


def config(**optimization: Any) -> ResolvedConfig:
    return reversing.config(optimization={"batch_tokens": 60, "max_epochs": 2, **optimization})


def read(
    store: TokenStore,
    settings: ResolvedConfig,
    progress: RunProgress | None = None,
    world: World = ALONE,
) -> list[Portion]:
    return list(portions(settings, store, progress or RunProgress(), world=world, device=CPU))


def pairs_of(portion: Portion) -> list[list[int]]:
    return [(batch.target_output[:, 0] - 10).tolist() for batch in portion.batches]


def same(one: list[Portion], other: list[Portion]) -> bool:
    def content(found: list[Portion]) -> list[Any]:
        return [(pairs_of(p), p.target_tokens, p.num_batches, p.ends_epoch) for p in found]

    return content(one) == content(other)


def order(store: TokenStore, epoch: int) -> list[list[int]]:
    return [b.tolist() for b in epoch_batches(store, batch_tokens=60, seed=1, epoch=epoch)]


def test_batches_come_in_the_order_of_the_epoch(store: TokenStore) -> None:
    found = read(store, config())
    expected = [*order(store, 0), *order(store, 1)]
    assert [pairs_of(portion) for portion in found] == [[batch] for batch in expected]
    ends = [number for number, portion in enumerate(found) if portion.ends_epoch]
    assert ends == [len(order(store, 0)) - 1, len(expected) - 1]
    for portion in found:
        assert portion.target_tokens == sum(b.num_target_tokens for b in portion.batches)


def test_accumulated_batches_do_not_mix_epochs(store: TokenStore) -> None:
    found = read(store, config(accumulate=3))
    for epoch in (0, 1):
        batches = order(store, epoch)
        groups = [batches[start : start + 3] for start in range(0, len(batches), 3)]
        assert [pairs_of(portion) for portion in found[: len(groups)]] == groups
        assert [portion.num_batches for portion in found[: len(groups)]] == list(map(len, groups))
        found = found[len(groups) :]
    assert not found


def test_portions_start_at_the_progress_of_the_run(store: TokenStore) -> None:
    whole, first_epoch = read(store, config()), len(order(store, 0))
    for batch in (1, 7, first_epoch - 1):
        assert same(read(store, config(), RunProgress(batch=batch)), whole[batch:])
    rest = read(store, config(), RunProgress(epoch=1, batch=4))
    assert same(rest, whole[first_epoch + 4 :])


def test_after_the_last_batch_an_empty_portion_ends_the_epoch(store: TokenStore) -> None:
    """A run state can be saved after the last batch, before the epoch is counted."""
    first_epoch = len(order(store, 0))
    end, *rest = read(store, config(), RunProgress(batch=first_epoch))
    assert end == Portion(batches=[], target_tokens=0, num_batches=0, ends_epoch=True)
    assert same(rest, read(store, config())[first_epoch:])


def test_a_limit_below_the_current_epoch_still_gives_that_epoch(store: TokenStore) -> None:
    assert len(read(store, config(max_epochs=1), RunProgress(epoch=3))) == len(order(store, 3))


def test_workers_divide_the_rows_of_every_batch(store: TokenStore) -> None:
    settings = config(accumulate=2, batch_tokens=14)
    whole = read(store, settings)
    shares = [read(store, settings, world=World(rank, 3)) for rank in range(3)]
    for portion, *parts in zip(whole, *shares, strict=True):
        together = sorted(n for part in parts for batch in pairs_of(part) for n in batch)
        assert together == sorted(n for batch in pairs_of(portion) for n in batch)
        assert {part.target_tokens for part in parts} == {portion.target_tokens}
        assert {part.num_batches for part in parts} == {portion.num_batches}
        tokens = sum(batch.num_target_tokens for part in parts for batch in part.batches)
        assert tokens == portion.target_tokens
    assert any(not part.batches for part in shares[2]), "the case of no rows was not met"


def test_a_batch_holds_the_ids_of_the_store(store: TokenStore) -> None:
    portion = read(store, config())[3]
    expected = read_batch(store, np.array(order(store, 0)[3]))
    assert torch.equal(portion.batches[0].source.token_ids, expected.source.token_ids)
    assert torch.equal(portion.batches[0].target_input, expected.target_input)


class Counting:
    """Yields 0, 1, 2, ... and records what was requested."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.made = 0
        self.fails_at = fails_at
        self.threads: set[str] = set()
        self.enough = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self.enough:
            self.threads.add(threading.current_thread().name)
            if self.made == self.fails_at:
                raise OSError("the disk is gone")
            self.made += 1
            self.enough.notify_all()
            return self.made - 1


def test_items_are_made_in_advance() -> None:
    numbers = Counting()
    ahead = read_ahead(numbers, depth=3)
    assert next(ahead) == 0
    with numbers.enough:  # 0 and the three behind it, before any is requested
        assert numbers.enough.wait_for(lambda: numbers.made == 4, timeout=30)
    assert [next(ahead) for _ in range(20)] == list(range(1, 21))
    ahead.close()
    assert numbers.made <= 24
    assert numbers.threads == {"read-ahead_0"}
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_an_error_is_raised_after_the_items_before_it() -> None:
    ahead = read_ahead(Counting(fails_at=2), depth=5)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_read_ahead_ends_with_its_items() -> None:
    assert list(read_ahead(iter("ab"), depth=5)) == ["a", "b"]
    assert list(read_ahead(iter(""), depth=1)) == []
