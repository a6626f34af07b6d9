"""Text in, the same text out; nothing unknown; a broken model refused."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer

from model.errors import CheckpointError, InputError
from model.text.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, TokenizerPair, check_text
from training.config import TokenizerConfig
from training.data.fit_tokenizer import fit_tokenizers

ENGLISH = [f"A man in a {c} shirt, {n} dogs and a {c} car." for c in ("red", "blue") for n in "123"]
CHINESE = [f"你好，我有{n}本{c}色的书。" for c in "红蓝绿" for n in "123"]

HARD_TEXTS = [
    "plain text",
    "  two  spaces ",
    "tab\tline\nfeed\rreturn",
    "\x01\x02control\x7f\x85\u2028\u2029\x1c.",
    "👍🏽 👨‍👩‍👧 🇩🇪 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "日本語とｶﾀｶﾅ、全角！　空白",
    "กำลังแปลภาษา",
    "e\u0301 a\u0308\u0304 \u0301",
    "½ ﬁ ² ™ … ～ \u00a0\u202f",
    "<unk> <s> </s> <pad> <0x41> ▁ ⁇ \ufffd",
    "\u200b\u200d\ufeff\u00ad",
    "\U0010ffff\ue000\ufdd0",
    "مرحبا بالعالم",
]

KINDS_AND_RULES = [(k, r) for k in ("unigram", "bpe") for r in ("nmt_nfkc", "nfkc", "identity")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module")
def tokenizers(folder: Path) -> list[Tokenizer]:
    return [_fit(folder / f"{k}-{r}", kind=k, normalization=r).source for k, r in KINDS_AND_RULES]


def _fit(folder: Path, **config: object) -> TokenizerPair:
    return fit_tokenizers(
        lambda: iter(ENGLISH),
        lambda: iter(CHINESE),
        config=TokenizerConfig.model_validate({"vocab_size": 350, **config}),
        source_language="en",
        target_language="zh",
        folder=folder,
        seed=1,
        report=lambda line: None,
    )


def _check_round_trip(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text)
    decoded = tokenizer.decode(token_ids)
    assert decoded == tokenizer.normalize(text)
    assert not {PAD, UNK, BOS, EOS} & set(token_ids)
    assert all(0 <= token_id < tokenizer.size for token_id in token_ids)
    assert not set(decoded) & set("\0\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
    assert decoded.strip() == decoded
    if not text.strip():
        assert token_ids == []
    assert tokenizer.encode_many([text, "x", text]) == [token_ids, tokenizer.encode("x"), token_ids]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_difficult_texts_survive_encoding_and_decoding(
    tokenizers: list[Tokenizer], text: str
) -> None:
    for tokenizer in tokenizers:
        _check_round_trip(tokenizer, text)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from([*"".join(HARD_TEXTS)])).map("".join))
def test_any_unicode_survives_encoding_and_decoding(tokenizers: list[Tokenizer], text: str) -> None:
    for tokenizer in tokenizers:
        _check_round_trip(tokenizer, text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=262)))
def test_any_ids_decode_to_one_valid_line(
    tokenizers: list[Tokenizer], token_ids: list[int]
) -> None:
    for tokenizer in tokenizers:
        text = tokenizer.decode(token_ids)
        check_text(text)
        assert text.splitlines() in ([], [text])


def test_normalisation_by_hand(tokenizers: list[Tokenizer]) -> None:
    by_rule = {
        rule: tokenizer
        for (kind, rule), tokenizer in zip(KINDS_AND_RULES, tokenizers, strict=True)
        if kind == "unigram"
    }
    text = " A\u00a0½\tﬁ\x02sh ！ "
    assert by_rule["identity"].normalize(text) == "A\u00a0½ ﬁsh ！"
    assert by_rule["nfkc"].normalize(text) == "A 1⁄2 fish !"
    assert by_rule["nmt_nfkc"].normalize(text) == "A 1⁄2 fish !"


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u3000\u00a0", "\x01\x85\u2028"])
def test_blank_text_has_no_tokens(tokenizers: list[Tokenizer], text: str) -> None:
    assert all(tokenizer.encode(text) == [] for tokenizer in tokenizers)


def test_byte_pieces_decode_safely(tokenizers: list[Tokenizer]) -> None:
    tokenizer = tokenizers[0]

    def decode(*values: int) -> str:
        # byte pieces follow the four special ones, in order
        letter = tokenizer.encode("A")
        return tokenizer.decode([*letter, *(EOS + 1 + value for value in values), *letter])

    assert tokenizer.pieces([EOS + 1 + 0xE6]) == ["<0xE6>"]
    assert decode(0xE6, 0x97, 0xA5) == "A日 A"
    assert decode(0xE6) == "A\ufffd A"
    assert decode(0xED, 0xA0, 0x80) == "A\ufffd\ufffd\ufffd A"  # a surrogate
    assert decode(0x0A) == "A  A"
    assert decode(0x0D) == "A  A"
    assert decode(0x00) == "A A"
    assert tokenizer.decode([BOS, *tokenizer.encode("A man"), UNK, EOS, PAD, PAD]) == "A man"


def test_a_saved_tokenizer_is_the_same_when_loaded(
    folder: Path, tokenizers: list[Tokenizer]
) -> None:
    for tokenizer in tokenizers:
        path = folder / "again.model"
        tokenizer.save(path)
        again = Tokenizer.load(path)
        assert again.size == tokenizer.size
        assert again.encode(ENGLISH[0]) == tokenizer.encode(ENGLISH[0])
        assert again.normalize("½ ！") == tokenizer.normalize("½ ！")


@pytest.mark.parametrize("joint", [True, False])
def test_a_saved_tokenizer_pair_can_be_loaded(tmp_path: Path, joint: bool) -> None:
    pair = _fit(tmp_path, joint=joint, normalization="identity")
    names = ["joint.model"] if joint else ["source.model", "target.model"]
    assert pair.joint is joint
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    again = TokenizerPair.load(tmp_path)
    assert again.joint is joint
    assert again.source.encode(ENGLISH[0]) == pair.source.encode(ENGLISH[0])
    assert again.target.encode(CHINESE[0]) == pair.target.encode(CHINESE[0])
    copy = tmp_path / "copy"
    copy.mkdir()
    assert again.save(copy) == names
    assert all((copy / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_pair_replaces_the_other_layout(tmp_path: Path) -> None:
    _fit(tmp_path, joint=False)
    _fit(tmp_path, joint=True)
    assert TokenizerPair.load(tmp_path).joint


@pytest.mark.parametrize("names", [[], ["source.model"], ["joint.model", "target.model"]])
def test_pair_with_missing_or_extra_files_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"joint\.model alone"):
        TokenizerPair.load(tmp_path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.load(tmp_path / "joint.model")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\0" * 100, b"\x0a\xff\xff\xff\xff\x0f"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "joint.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"joint\.model is damaged"):
        Tokenizer.load(path)


def test_truncated_model_is_refused(folder: Path, tokenizers: list[Tokenizer]) -> None:
    path = folder / "truncated.model"
    tokenizers[0].save(path)
    model = path.read_bytes()
    for length in (1, 10, 1000, len(model) // 2, len(model) - 1):
        with pytest.raises(CheckpointError):
            Tokenizer(model[:length], name="truncated.model")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"byte_fallback": False}, "byte fallback"),
        ({"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2}, "special ids"),
    ],
)
def test_models_of_other_kinds_are_refused(
    tmp_path: Path, option: dict[str, Any], message: str
) -> None:
    ours: dict[str, Any] = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    ours["byte_fallback"] = True
    SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH),
        model_prefix=str(tmp_path / "foreign"),
        vocab_size=400,
        hard_vocab_limit=False,
        minloglevel=2,
        **(ours | option),
    )
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(tmp_path / "foreign.model")


MUTATIONS = """
import random, sys
from pathlib import Path
from model.errors import CheckpointError
from model.text.tokenizer import Tokenizer
model = Path(sys.argv[1]).read_bytes()
generator = random.Random(7)
refused = 0
for _ in range(1000):
    broken = bytearray(model)
    for _ in range(generator.choice([1, 2, 8])):
        place = generator.choice([generator.randrange(8000), -generator.randrange(1, 400)])
        broken[place] = generator.randrange(256)
    try:
        tokenizer = Tokenizer(bytes(broken), name="broken.model")
    except CheckpointError:
        refused += 1
        continue
    tokenizer.decode(tokenizer.encode("A man, 日本 😀 ½"))
    tokenizer.decode(list(range(tokenizer.size)))
print(refused)
"""


def test_damaged_models_never_crash_the_process(folder: Path, tokenizers: list[Tokenizer]) -> None:
    tokenizers[0].save(folder / "whole.model")
    command = [sys.executable, "-c", MUTATIONS, str(folder / "whole.model")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    assert 100 < int(result.stdout) <= 1000


def test_threads_share_one_tokenizer(tokenizers: list[Tokenizer]) -> None:
    generator = random.Random(3)
    texts = ["".join(generator.choices("".join(HARD_TEXTS), k=200)) for _ in range(100)]
    for tokenizer in tokenizers:
        expected = [tokenizer.encode(text) for text in texts]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(tokenizer.encode_many, [texts] * 20)) == [expected] * 20


@pytest.mark.parametrize(
    ("text", "message"),
    [("ab\0", "NUL character at position 3"), ("a\ud800b", r"U\+D800\) at position 2")],
)
def test_text_that_cannot_be_translated(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_text(text)


def test_all_other_text_can_be_translated() -> None:
    for text in ["", *HARD_TEXTS]:
        check_text(text)
