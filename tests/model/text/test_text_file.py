"""Lines of text files: exact, in blocks of bounded size; damaged files are refused by name."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import InputError
from model.text import text_file
from model.text.text_file import one_line, read_lines


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    text = "one\u2028still one\x0b\x0c\x85\ttab\n\r\n  two \r\nthree\rthree"
    assert list(read_lines(write(tmp_path / "text", text))) == [
        "one\u2028still one\x0b\x0c\x85\ttab",
        "",
        "  two ",
        "three\rthree",
    ]


def test_a_byte_order_mark_is_taken_off_once(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert list(read_lines(path)) == ["one", "\ufefftwo"]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "text", ""))) == []


@pytest.mark.parametrize("name", ["text.gz", "text.en", "text.GZ"])
def test_gzip_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    # two members one after the other, as `cat a.gz b.gz` makes them
    path = write(tmp_path / name, gzip.compress(b"eins\nzwei") + gzip.compress(b"!\ndrei"))
    assert list(read_lines(path)) == ["eins", "zwei!", "drei"]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        list(read_lines(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_latin_1_is_refused_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"fine\n" * 1200 + "für\n".encode("latin-1"))
    message = refused(path)
    assert "line 1201: not UTF-8 (byte 2 of the line is 0xfc)" in message
    assert "iconv" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_by_name(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "text", "Guten Tag\nWelt\n".encode(encoding))
    assert "UTF-16" in refused(path)


def test_a_nul_byte_is_refused_with_file_and_line(tmp_path: Path) -> None:
    assert "line 2: holds a NUL character (byte 3" in refused(
        write(tmp_path / "text", "one\ntw\0o\n")
    )


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "nothing")
    assert "is a folder" in refused(tmp_path)


def test_gzip_by_name_only_is_refused(tmp_path: Path) -> None:
    assert "holds no gzip data" in refused(write(tmp_path / "text.gz", "plain text\n"))
    assert "holds no gzip data" in refused(write(tmp_path / "empty.gz", b""))


def test_truncated_gzip_is_refused_after_the_lines_that_were_whole(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"line {n}\n" for n in range(20_000)).encode())
    path = write(tmp_path / "text.gz", whole[: len(whole) // 2])
    assert "the gzip data ends too early after line" in refused(path)


@pytest.mark.parametrize("place", [-6, 400])  # the checksum; the compressed data
def test_damaged_gzip_is_refused(tmp_path: Path, place: int) -> None:
    damaged = bytearray(gzip.compress("".join(f"{n * n}\n" for n in range(5000)).encode()))
    for offset in range(4):
        damaged[place + offset - 2] ^= 0xFF
    assert "the gzip data is damaged" in refused(write(tmp_path / "text.gz", bytes(damaged)))


def test_a_file_without_line_ends_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_file, "MAX_LINE_BYTES", 1 << 20)
    path = write(tmp_path / "bomb.gz", gzip.compress(b"short\n" + b"x" * (3 << 20)))
    assert "line 2: longer than 1 MiB" in refused(path)
    path = write(tmp_path / "just.fits", b"x" * (1 << 20) + b"\n")
    assert [len(line) for line in read_lines(path)] == [1 << 20]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=12)


@settings(max_examples=50, deadline=None)
@given(lines=st.lists(texts, max_size=30), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_blocks_of_any_size_give_the_same_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, last: bool
) -> None:
    text = end.join(lines) + (end if last and lines else "")
    path = write(tmp_path_factory.mktemp("text") / "text", text)
    expected = text.removeprefix("\ufeff").split("\n")
    if text.endswith("\n") or not text:
        expected.pop()
    if text == "\ufeff":
        expected = [""]
    for block_bytes in (1, 20, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text_file, "BLOCK_BYTES", block_bytes)
            assert list(read_lines(path)) == [line.removesuffix("\r") for line in expected]


def test_one_line_replaces_line_ends_only() -> None:
    assert one_line("a\r\n\nb\rc\u2028d\te ") == "a b c\u2028d\te "
