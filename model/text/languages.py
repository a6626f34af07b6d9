"""Language codes, and which languages and characters are written without spaces.

How codes of clients match those of models is `service.text.languages`.
"""

import regex  # type: ignore[import-untyped, unused-ignore]

CHINESE = frozenset({"zh", "cmn", "yue", "wuu", "hak", "nan", "lzh"})

# No space between sentences, nor between words.
UNSPACED_SENTENCES = CHINESE | {"ja"}

# No space between words. All but Chinese and Japanese put one between sentences.
UNSPACED_WORDS = UNSPACED_SENTENCES | {"th", "lo", "km", "my", "bo", "dz"}

# Characters of the scripts of these languages, and their punctuation.
UNSPACED_CHARACTER = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
    r"\u3000-\u303f\uff00-\uff64]"
)


def primary_subtag(language: str) -> str:
    """The language of a code alone, in lower case: `zh` for `zh-Hans-CN` and `ZH_CN`."""
    return language.replace("_", "-").partition("-")[0].lower()
