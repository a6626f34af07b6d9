"""Writes an artificial parallel corpus of any size, to measure its preparation.

    python -m tests.training.data.big_corpus FOLDER --pairs 50000000

FOLDER/big.en and FOLDER/big.de: sentences of 3 to 40 made-up words, drawn so that a word's
frequency falls with its rank as in real text; hardly any pair comes twice. The other side has the
same words in other letters. The same number of pairs gives the same bytes, 150 a sentence.
"""

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

NUM_WORDS = 200_000
SHORTEST, LONGEST = 3, 40  # words of a sentence
SEED = 1

_CHUNK_PAIRS = 20_000
_ONSETS = (*"bdfghklmnprstvwz", "br", "dr", "fl", "gr", "kl", "pr", "sch", "sp", "st", "tr")
_VOWELS = (*"eaoiu", "ea", "ou", "ai")
_CODAS = ("", *"nrtsl", "ng", "ck")
_OTHER_LETTERS = str.maketrans("bdfghklmnprstvwz", "ptvkchrnmdlzsfjw")


@functools.cache
def words() -> tuple[str, ...]:
    """NUM_WORDS different words, short ones first.

    Syllables are as uneven as in real words; were all as frequent, SentencePiece would find no
    good pieces.
    """
    random = np.random.default_rng(SEED)
    parts = (_ONSETS, _VOWELS, _CODAS)
    found: dict[str, None] = {}
    while len(found) < NUM_WORDS:
        num_syllables = 1 + int(np.log10(len(found) + 10) / 2 - 0.5 + random.random())
        # The square of a uniform number: the first of each part come most often.
        drawn = random.random((num_syllables, len(parts))) ** 2
        word = "".join(
            part[int(place * len(part))]
            for syllable in drawn.tolist()
            for part, place in zip(parts, syllable, strict=True)
        )
        found[word] = None
    return tuple(found)


def chunks(num_pairs: int) -> Iterator[tuple[str, str]]:
    """Yields lines of both sides, some thousand pairs at a time."""
    random = np.random.default_rng(SEED)
    # Each word twice, in front of a space and at the end of a line, so that one join makes a chunk.
    spaced = [word + end for end in " \n" for word in words()]
    for start in range(0, num_pairs, _CHUNK_PAIRS):
        lengths = random.integers(SHORTEST, LONGEST + 1, min(_CHUNK_PAIRS, num_pairs - start))
        ends = np.cumsum(lengths) - 1
        # Uniform on a logarithmic scale: the word of rank r has probability near 1 / r (Zipf).
        ranks = np.exp(random.random(ends[-1] + 1, dtype=np.float32) * np.log(NUM_WORDS)) - 1
        places = ranks.astype(np.int32)
        places[ends] += NUM_WORDS
        source = "".join(map(spaced.__getitem__, places.tolist()))
        yield source, source.translate(_OTHER_LETTERS)


def write(folder: Path, num_pairs: int) -> None:
    """Writes big.en and big.de, and overwrites older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "big.en").open("w", encoding="utf-8", newline="\n") as sources,
        (folder / "big.de").open("w", encoding="utf-8", newline="\n") as targets,
    ):
        for source, target in chunks(num_pairs):
            sources.write(source)
            targets.write(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, required=True)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.pairs)
