"""Fits the SentencePiece models of both languages on the training split.

The texts are streamed; a sample of limited size is kept in memory.
"""

import io
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from sentencepiece import SentencePieceTrainer

from model.errors import ConfigError
from model.text.languages import UNSPACED_SENTENCES, primary_subtag
from model.text.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, TokenizerPair, clean_controls
from training.config import TokenizerConfig
from training.errors import CorpusError

# A model is fitted on at most this many sentences; more do not change the frequent pieces.
MAX_SENTENCES = 1_000_000

# And at most this many characters: SentencePiece needs about 20 bytes for each, so 1.6 GB.
MAX_TOTAL_CHARACTERS = 80_000_000

# SentencePiece ignores sentences of more than 4192 bytes; a character has at most four.
_MAX_CHARACTERS = 1000

# Fixed, because a unigram model depends on how sentences are distributed over threads: the same
# number gives the same bytes on every machine.
_NUM_THREADS = 16

# A character for each syllable or word: many characters, most of them rare.
_LARGE_SCRIPT_LANGUAGES = UNSPACED_SENTENCES | {"ko"}
_LARGE_SCRIPT_COVERAGE = 0.9995  # of the characters in running text; the rest is spelt in bytes

# NFKC would turn full-width punctuation into ASCII and split the Thai and Lao vowel AM in two, so
# that no translation into these languages could be written as its readers write.
_IDENTITY_TARGETS = _LARGE_SCRIPT_LANGUAGES | {"th", "lo"}

_TOO_SMALL = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")


def fit_tokenizers(
    source_texts: Callable[[], Iterator[str]],
    target_texts: Callable[[], Iterator[str]],
    *,
    config: TokenizerConfig,
    source_language: str,
    target_language: str,
    folder: Path,
    seed: int,
    report: Callable[[str], None],
) -> TokenizerPair:
    """Fits one joint tokenizer or one per side, and saves them in `folder`.

    The same texts, config and seed give the same bytes. `report` gets a line per model, with a note
    if the corpus was too small for the configured size. Raises CorpusError when there is no text,
    ConfigError when the configured size is smaller than the number of characters.
    """
    languages = [source_language, target_language]
    rules = normalizations(config, target_language)
    if config.joint:
        per_side = MAX_SENTENCES // 2
        texts = sample(source_texts(), per_side, seed=seed)
        num_pairs = len(texts)
        texts += sample(target_texts(), per_side, seed=seed)
        joint = _fit(
            texts, "joint", config, languages, rule=rules[1], num_pairs=num_pairs, report=report
        )
        pair = TokenizerPair(joint, joint)
    else:
        sides = []
        for side, stream, language, rule in zip(
            ("source", "target"), (source_texts, target_texts), languages, rules, strict=True
        ):
            texts = sample(stream(), MAX_SENTENCES, seed=seed)
            sides.append(
                _fit(
                    texts, side, config, [language], rule=rule, num_pairs=len(texts), report=report
                )
            )
        pair = TokenizerPair(*sides)
    folder.mkdir(parents=True, exist_ok=True)
    pair.save(folder)
    return pair


def sample(texts: Iterable[str], limit: int, *, seed: int) -> list[str]:
    """Returns a uniform random sample of at most `limit` texts.

    Reservoir sampling with skips (Li, 1994, algorithm L), which draws no random number for texts
    that it skips. Control characters are removed; texts that are blank then are left out.
    """
    generator = random.Random(seed)
    remaining = iter(texts)
    kept: list[str] = []
    while len(kept) < limit:
        text = next(remaining, None)
        if text is None:
            return kept
        if clean := clean_controls(text):
            kept.append(clean)
    # Every text has a uniform random number, and the `limit` smallest are kept. `log_largest` is
    # the log of the largest of those; the next text with a smaller number replaces one of them.
    log_largest = 0.0
    while True:
        log_largest += _log_uniform(generator) / limit
        num_passed_over = int(_log_uniform(generator) / math.log(-math.expm1(log_largest)))
        text = next(islice(remaining, num_passed_over, None), None)
        if text is None:
            return kept
        if clean := clean_controls(text):
            kept[generator.randrange(limit)] = clean


def _log_uniform(generator: random.Random) -> float:
    """Returns the logarithm of a uniform random number, which is never 0 or 1."""
    return math.log(generator.random() or 0.5)


def default_vocab_size(num_pairs: int) -> int:
    """Returns the vocabulary size for a corpus of this many sentence pairs.

    Small corpora need small vocabularies, or most pieces are too rare to be learnt (Sennrich and
    Zhang, 2019).
    """
    for pairs, vocab_size in (
        (15_000, 2_000),
        (60_000, 4_000),
        (500_000, 8_000),
        (5_000_000, 16_000),
    ):
        if num_pairs < pairs:
            return vocab_size
    return 32_000


def normalizations(config: TokenizerConfig, target_language: str) -> tuple[str, str]:
    """Returns the normalization rules of the source and of the target tokenizer."""
    if config.normalization != "auto":
        return config.normalization, config.normalization
    # Only what is written must keep its readers' forms; what is read gains from fewer.
    target = "identity" if primary_subtag(target_language) in _IDENTITY_TARGETS else "nmt_nfkc"
    return target if config.joint else "nmt_nfkc", target


def _coverage(config: TokenizerConfig, languages: Iterable[str]) -> float:
    if config.character_coverage is not None:
        return config.character_coverage
    large = any(primary_subtag(language) in _LARGE_SCRIPT_LANGUAGES for language in languages)
    return _LARGE_SCRIPT_COVERAGE if large else 1.0


def _fit(
    texts: list[str],
    name: str,
    config: TokenizerConfig,
    languages: list[str],
    *,
    rule: str,
    num_pairs: int,
    report: Callable[[str], None],
) -> Tokenizer:
    """Fits one tokenizer of the configured size, or a smaller one if the texts are too few."""
    texts = _thinned(texts, MAX_TOTAL_CHARACTERS)
    if not texts:
        raise CorpusError(
            f"the {name} tokenizer has no text to learn from: the training split is empty"
        )
    coverage = _coverage(config, languages)
    asked = config.vocab_size or default_vocab_size(num_pairs)
    try:
        model = _train(texts, config.kind, asked, coverage=coverage, rule=rule)
    except _VocabTooSmallError as error:
        if config.vocab_size is not None:
            raise ConfigError(
                f"tokenizer.vocab_size = {asked} is too small: bytes, special pieces and the "
                f"characters of the {name} text need {error.needed}; raise it, or lower "
                f"tokenizer.character_coverage (now {coverage}) to spell rare characters in bytes"
            ) from None
        asked = 2 * error.needed
        model = _train(texts, config.kind, asked, coverage=coverage, rule=rule)
    tokenizer = Tokenizer(model, name=f"{name}.model")
    message = f"{name} tokenizer: {tokenizer.size} {config.kind} pieces, normalisation {rule}"
    if tokenizer.size < asked:
        message += f" (the corpus is too small for {asked})"
    report(message)
    return tokenizer


def _thinned(texts: list[str], max_characters: int) -> list[str]:
    """Returns the texts, or an evenly spread part of them with about `max_characters` in total."""
    num_characters = sum(map(len, texts))
    if num_characters <= max_characters:
        return texts
    num_kept = len(texts) * max_characters // num_characters
    return [texts[index * len(texts) // num_kept] for index in range(num_kept)]


class _VocabTooSmallError(Exception):
    """Raised when the characters alone are more pieces than the configured size."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


def _train(texts: list[str], kind: str, vocab_size: int, *, coverage: float, rule: str) -> bytes:
    """Trains a SentencePiece model with at most `vocab_size` pieces; returns its bytes."""
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_short_lines(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size,
            hard_vocab_limit=False,  # a small corpus gives fewer pieces instead of an error
            character_coverage=coverage,
            normalization_rule_name=rule,
            byte_fallback=True,
            split_digits=True,  # so that unseen numbers are copied digit by digit
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            num_threads=_NUM_THREADS,
            minloglevel=2,  # errors come as exceptions
        )
    except RuntimeError as error:
        too_small = _TOO_SMALL.search(str(error))
        if too_small is None:
            raise CorpusError(
                f"SentencePiece cannot learn pieces from {len(texts)} sentences ({error}); "
                f"check that the training split holds text"
            ) from error
        raise _VocabTooSmallError(int(too_small.group(1))) from None
    return model.getvalue()


def _short_lines(texts: list[str]) -> Iterator[str]:
    """Yields the texts, long ones in parts; words cut in two are too few to matter."""
    for text in texts:
        for start in range(0, len(text), _MAX_CHARACTERS):
            yield text[start : start + _MAX_CHARACTERS]
