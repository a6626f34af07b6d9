"""Segment <-> pieces <-> token ids, with SentencePiece; owns PAD, UNK, BOS and EOS.

Models are fitted in `training.data.fit_tokenizer`; here they are loaded, checked and used.
Splitting a text into segments is `model.text.segmenter`'s affair.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sentencepiece import SentencePieceProcessor, set_min_log_level

from model.errors import CheckpointError, InputError

PAD, UNK, BOS, EOS = 0, 1, 2, 3

JOINT_FILE = "joint.model"
SOURCE_FILE = "source.model"
TARGET_FILE = "target.model"

TokenizerKind = Literal["unigram", "bpe"]

# Control characters carry no meaning to translate and would break "line in, line out": those that
# separate (tab, line feed, U+2028, ...) become a space, the others disappear, as in SentencePiece's
# own nmt_nfkc rule. U+2581 is SentencePiece's inner sign for a space and cannot be told from one.
_SEPARATORS = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029\u2581"
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "") | {
    ord(character): " " for character in _SEPARATORS
}


def clean_controls(text: str) -> str:
    """The text on one line: no control character, no line break, no white space at its ends."""
    if text.isprintable() and "\u2581" not in text:  # nearly always, and told six times faster
        return text.strip()
    return text.translate(_CONTROLS).strip()


def check_text(text: str) -> None:
    """Raises InputError for what no translation can hold: NUL and lone surrogates.

    Positions count characters from 1.
    """
    if "\0" in text:
        raise InputError(
            f"the text has a NUL character at position {text.index(chr(0)) + 1}; remove it"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text has half of a surrogate pair (U+{ord(text[error.start]):04X}) at position "
            f"{error.start + 1}, which is not valid Unicode; send it as UTF-8"
        ) from None


class Tokenizer:
    """One SentencePiece model: text in, token ids out, and back.

    Nothing is ever UNK: characters that are not in the vocabulary become their UTF-8 bytes.
    `decode(encode(text)) == normalize(text)`. All methods may be called from several threads.
    """

    size: int  # number of pieces, the four special ones included
    kind: TokenizerKind
    normalization: str  # "nmt_nfkc", "nfkc" or "identity": the rule inside the model

    def __init__(self, model: bytes, *, name: str) -> None:
        """From the bytes of a `.model` file; raises CheckpointError, which mentions `name`."""
        settings = _read_settings(model, name=name)
        self._model = model
        self._processor = _load_processor(model, name=name)
        self.size = self._processor.piece_size()
        self.kind = settings.kind
        self.normalization = settings.normalization

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Raises CheckpointError when the file is missing, damaged or not made by Dragoman."""
        try:
            model = path.read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"tokenizer {path} cannot be read ({error.strerror}); export or copy it again"
            ) from None
        return cls(model, name=str(path))

    def save(self, path: Path) -> None:
        """Writes the model's own bytes; the file appears whole or not at all."""
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_bytes(self._model)
        os.replace(temporary, path)

    def encode(self, text: str) -> list[int]:
        """Token ids without BOS and EOS; empty when the text has nothing but white space."""
        token_ids: list[int] = self._processor.encode(clean_controls(text))
        return token_ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Like `encode` for each text, somewhat faster."""
        # One thread: more were not faster on sentences, and nothing oversubscribes.
        token_ids: list[list[int]] = self._processor.encode(
            [clean_controls(text) for text in texts], num_threads=1
        )
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """One line of text; the special pieces are left out.

        Byte pieces that are not valid UTF-8 become U+FFFD, control characters a space or nothing.
        No white space at its ends.
        """
        shown = [int(token_id) for token_id in token_ids if token_id > EOS]
        text: bytes = self._processor.decode(shown, return_type=bytes)
        return clean_controls(text.decode("utf-8", errors="replace"))

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The pieces as SentencePiece writes them: `▁` for a space, `<0xE6>` for a byte."""
        return [self._processor.id_to_piece(int(token_id)) for token_id in token_ids]

    def normalize(self, text: str) -> str:
        """The text as the network sees it, and as `decode` gives it back."""
        normalized: str = self._processor.normalize(clean_controls(text))
        return normalized.removeprefix("▁").replace("▁", " ")


@dataclass(frozen=True)
class TokenizerPair:
    """Source and target tokenizer; the same object twice when the vocabulary is joint."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        return self.source is self.target

    def save(self, folder: Path) -> list[str]:
        """Writes joint.model, or source.model and target.model; the names of the files."""
        if self.joint:
            files = {JOINT_FILE: self.source}
        else:
            files = {SOURCE_FILE: self.source, TARGET_FILE: self.target}
        for name, tokenizer in files.items():
            tokenizer.save(folder / name)
        for stale in {JOINT_FILE, SOURCE_FILE, TARGET_FILE} - files.keys():
            (folder / stale).unlink(missing_ok=True)
        return list(files)

    @classmethod
    def load(cls, folder: Path) -> "TokenizerPair":
        """Raises CheckpointError when the files are missing, damaged or contradict each other."""
        present = [n for n in (JOINT_FILE, SOURCE_FILE, TARGET_FILE) if (folder / n).exists()]
        if present == [JOINT_FILE]:
            joint = Tokenizer.load(folder / JOINT_FILE)
            return cls(joint, joint)
        if present == [SOURCE_FILE, TARGET_FILE]:
            return cls(Tokenizer.load(folder / SOURCE_FILE), Tokenizer.load(folder / TARGET_FILE))
        raise CheckpointError(
            f"{folder} must hold {JOINT_FILE} alone, or {SOURCE_FILE} and {TARGET_FILE}, but holds "
            f"{' and '.join(present) or 'none of them'}; export or copy it again"
        )


def _load_processor(model: bytes, *, name: str) -> SentencePieceProcessor:
    """A processor whose special ids and byte pieces are those we rely on."""
    set_min_log_level(2)  # SentencePiece would print a damaged model's errors itself
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
        size = processor.piece_size()
        processor.id_to_piece(list(range(size)))  # raises if a piece is not UTF-8
    except (RuntimeError, ValueError):
        raise _damaged(name) from None
    special = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
    if special != (PAD, UNK, BOS, EOS):
        raise CheckpointError(
            f"{name} has the special ids {special}, not {(PAD, UNK, BOS, EOS)} for pad, unk, bos, "
            f"eos; it was not fitted by Dragoman"
        )
    num_byte_pieces = sum(processor.is_byte(list(range(size))))
    if num_byte_pieces != 256:
        raise CheckpointError(
            f"{name} has {num_byte_pieces} byte pieces, not 256, so some text would be unknown to "
            f"it; fit it with byte fallback"
        )
    return processor


@dataclass(frozen=True)
class _ModelSettings:
    kind: TokenizerKind
    normalization: str


# Field numbers of sentencepiece_model.proto.
_MODEL_TRAINER_SPEC = 2
_MODEL_NORMALIZER_SPEC = 3
_TRAINER_MODEL_TYPE = 3
_TRAINER_BYTE_FALLBACK = 35
_NORMALIZER_NAME = 1
_KINDS: dict[object, TokenizerKind] = {1: "unigram", 2: "bpe"}


def _read_settings(model: bytes, *, name: str) -> _ModelSettings:
    """What the model records of its own making.

    SentencePiece has no call for it, and its protobuf classes need the protobuf package, which a
    serving image does without; so the few fields are read from the wire format here.
    """
    try:
        parts = dict(_fields(model))  # of the repeated field, the pieces, the last one: not used
        trainer = dict(_fields(_bytes(parts[_MODEL_TRAINER_SPEC])))
        normalizer = dict(_fields(_bytes(parts[_MODEL_NORMALIZER_SPEC])))
        normalization = _bytes(normalizer[_NORMALIZER_NAME]).decode("utf-8")
    except (ValueError, IndexError, KeyError):
        raise _damaged(name) from None
    kind = _KINDS.get(trainer.get(_TRAINER_MODEL_TYPE, 1))  # unigram is not written: the default
    if kind is None or trainer.get(_TRAINER_BYTE_FALLBACK) != 1:
        raise CheckpointError(
            f"{name} is not a unigram or BPE model with byte fallback, so not one of Dragoman's"
        )
    return _ModelSettings(kind, normalization)


def _damaged(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name} is damaged or not a SentencePiece model; export or copy it again"
    )


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected, a number found")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of each field of a protobuf message.

    Raises ValueError or IndexError when the message is torn.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield field, value
            continue
        if wire_type == 2:
            length, position = _varint(message, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type} is not in use")
        if position + length > len(message):
            raise ValueError("the field is longer than its message")
        yield field, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The number that starts at a position, seven bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("the number is longer than ten bytes")
