"""Turns segments into token ids and back, with SentencePiece; defines PAD, UNK, BOS and EOS.

Models are fitted in `training.data.fit_tokenizer`; here they are loaded, checked and used. How
they were fitted stands in the checkpoint's config.json. `model.text.segmenter` splits a text into
segments.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor, set_min_log_level

from model.errors import CheckpointError, InputError

PAD, UNK, BOS, EOS = 0, 1, 2, 3

JOINT_FILE = "joint.model"
SOURCE_FILE = "source.model"
TARGET_FILE = "target.model"

_RARE_CHARACTER = "\U0010fffd"  # of a private use area: in no vocabulary

# Control characters carry no meaning to translate and would break "line in, line out": those that
# separate (tab, line feed, U+2028, ...) become a space, the others disappear, as in SentencePiece's
# own nmt_nfkc rule. U+2581 is SentencePiece's inner sign for a space and cannot be told from one.
_SEPARATORS = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029\u2581"
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "") | {
    ord(character): " " for character in _SEPARATORS
}


def clean_controls(text: str) -> str:
    """The text on one line: no control character, no line break, no white space at its ends."""
    if text.isprintable() and "\u2581" not in text:  # nearly always, and six times faster
        return text.strip()
    return text.translate(_CONTROLS).strip()


def check_text(text: str) -> None:
    """Raises InputError for characters that cannot be translated: NUL and lone surrogates.

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

    def __init__(self, model: bytes, *, name: str) -> None:
        """Loads the bytes of a `.model` file; raises CheckpointError, which mentions `name`."""
        self._model = model
        self._processor = _load_processor(model, name=name)
        self.size = self._processor.piece_size()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Loads a `.model` file; CheckpointError if it is missing, damaged or not Dragoman's."""
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
        """Token ids without BOS and EOS; empty if the text is only white space."""
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
        """The text as the network sees it, and as `decode` returns it."""
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
        """Writes joint.model, or source.model and target.model; returns the files' names."""
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
        """Loads what `save` wrote; CheckpointError if files are missing, damaged or too many."""
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
    """A processor with the special ids and byte pieces of Dragoman's models; or CheckpointError."""
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
    if num_byte_pieces != 256 or UNK in processor.encode(_RARE_CHARACTER):
        raise CheckpointError(
            f"{name} was fitted without byte fallback ({num_byte_pieces} of 256 byte pieces), so "
            f"some text would be unknown to it; fit it with byte fallback"
        )
    return processor


def _damaged(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name} is damaged or not a SentencePiece model; export or copy it again"
    )
