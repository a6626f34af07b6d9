"""Tests that the shortlist holds the translations of each piece."""

import random
from pathlib import Path

import pytest

from model.inference.shortlist import Shortlist
from model.text.tokenizer import EOS
from training.data.token_store import TokenStore, write_token_store
from training.release import learn_shortlist as lexicon
from training.release.learn_shortlist import learn_shortlist

VOCAB = 60
FIRST = EOS + 1
FILLER = 59  # in every target, the translation of nothing


def translation_of(piece: int) -> int:
    return FIRST + (piece - FIRST + 20) % 50


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Makes pairs in which every word has one translation, in reverse order."""
    folder: Path = tmp_path_factory.mktemp("lexicon") / "store"
    randomly = random.Random(0)
    with write_token_store(
        folder, source_vocab_size=VOCAB, target_vocab_size=VOCAB, weights=[1.0]
    ) as writer:
        for _ in range(600):
            source = [randomly.randrange(FIRST, FIRST + 50) for _ in range(randomly.randint(1, 8))]
            target = [translation_of(piece) for piece in reversed(source)] + [FILLER]
            writer.append(source, target, 0)
    return TokenStore.open(folder)


def learnt(store: TokenStore, *, joint: bool = False) -> Shortlist:
    return learn_shortlist(
        store, source_vocab_size=VOCAB, target_vocab_size=VOCAB, joint=joint, seed=1
    )


def test_the_translation_of_every_word_is_found(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexicon, "CANDIDATES", 2)
    monkeypatch.setattr(lexicon, "FREQUENT", 1)
    shortlist = learnt(store)
    for piece in range(FIRST, FIRST + 50):
        chosen = shortlist.choose([piece]).tolist()
        assert {EOS, FILLER, translation_of(piece)} <= set(chosen)
        assert len(chosen) <= 4


def test_with_a_joint_vocabulary_a_source_piece_may_be_copied(store: TokenStore) -> None:
    for piece in (FIRST, 30, 53):
        assert piece in learnt(store, joint=True).choose([piece])


def test_a_sample_of_the_pairs_gives_the_same_shortlist(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexicon, "_MAX_LINKS", 5_000)
    monkeypatch.setattr(lexicon, "CANDIDATES", 4)
    shortlist = learnt(store)
    found = sum(translation_of(piece) in shortlist.choose([piece]) for piece in range(4, 54))
    assert found > 40


def test_blocks_of_pairs_do_not_change_the_shortlist(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = learnt(store).tensors()
    monkeypatch.setattr(lexicon, "_BLOCK_LINKS", 100)
    monkeypatch.setattr(lexicon, "_PAIRS_AT_ONCE", 64)
    in_blocks = learnt(store).tensors()
    assert all((at_once[name] == in_blocks[name]).all() for name in at_once)


def test_pairs_are_drawn_until_there_are_enough_links(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexicon, "_MAX_LINKS", 5_000)
    for at_once in (16, 1000):
        monkeypatch.setattr(lexicon, "_PAIRS_AT_ONCE", at_once)
        drawn = [int(pair) for pairs in lexicon._drawn(store, 1) for pair in pairs]
        links = [(len(store.source(pair)) + 1) * len(store.target(pair)) for pair in drawn]
        assert sum(links[:-1]) <= 5_000 < sum(links)
        assert len(set(drawn)) == len(drawn)


def test_the_same_pairs_give_the_same_list(store: TokenStore) -> None:
    once, again = learnt(store).tensors(), learnt(store).tensors()
    assert all((once[name] == again[name]).all() for name in once)
