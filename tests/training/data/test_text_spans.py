"""Tests that spans return pairs as they were written."""

from pathlib import Path

from training.data.readers import Pair
from training.data.text_spans import TextSpan, new_spans, read_some, read_span

PAIRS = [
    Pair("one", "eins"),
    Pair("two\u2028still two\x85\x0c", "zwei\r"),
    Pair("\ufeffthree", "drei ß"),
    Pair("four", "vier"),
]


def write(folder: Path, *blocks: list[Pair]) -> list[TextSpan]:
    with new_spans(folder, "text") as writer:
        return [
            writer.append(len(pairs), *("".join(f"{s}\n" for s in side).encode() for side in sides))
            for pairs in blocks
            for sides in [zip(*pairs, strict=True)]
        ]


def test_a_span_holds_only_its_own_pairs(tmp_path: Path) -> None:
    first, second = write(tmp_path, PAIRS[:3], PAIRS[3:])
    assert (first.num_pairs, second.num_pairs) == (3, 1)
    assert list(read_span(tmp_path, "text", first)) == PAIRS[:3]
    assert list(read_span(tmp_path, "text", second)) == PAIRS[3:]


def test_pairs_of_a_span_are_read_in_the_given_order(tmp_path: Path) -> None:
    first, second = write(tmp_path, PAIRS[:1], PAIRS[1:])
    assert read_some(tmp_path, "text", second, [2, 0]) == [PAIRS[3], PAIRS[1]]
    assert read_some(tmp_path, "text", first, []) == []
