"""Tests which files the readers accept, and the error for each damaged file."""

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest

from model.errors import DragomanError, InputError
from model.text import text_file
from training.config import CorpusConfig
from training.data.readers import Pair, read_pairs
from training.errors import CorpusError

DATA = Path(__file__).parents[4] / "shared" / "data"


def pairs(
    path: Path | None = None,
    source_language: str = "en",
    target_language: str = "de",
    **keys: object,
) -> list[Pair]:
    corpus = CorpusConfig.model_validate({**({"path": path} if path else {}), **keys})
    return list(
        read_pairs(corpus, source_language=source_language, target_language=target_language)
    )


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# -- two aligned files


def test_aligned_files_give_raw_pairs(tmp_path: Path) -> None:
    source = write(tmp_path / "a.en", "Hello \n\nBye")
    target = write(tmp_path / "a.de.gz", gzip.compress(b"Hallo\r\n\r\n Tsch\xc3\xbcss\r\n"))
    assert pairs(source=source, target=target) == [
        Pair("Hello ", "Hallo"),
        Pair("", ""),
        Pair("Bye", " Tschüss"),
    ]


@pytest.mark.parametrize(("num_source", "num_target"), [(3, 1200), (1200, 3), (0, 1)])
def test_unequal_line_counts_are_both_named(
    tmp_path: Path, num_source: int, num_target: int
) -> None:
    source = write(tmp_path / "a.en", "x\n" * num_source)
    target = write(tmp_path / "a.de", "x\n" * num_target)
    with pytest.raises(CorpusError) as caught:
        pairs(source=source, target=target)
    assert f"{source} has {num_source:,} lines but {target} has {num_target:,}" in str(caught.value)


def test_lines_stay_aligned_for_any_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_file, "BLOCK_BYTES", 50)
    expected = [Pair("s" * (n * 7 % 30), "t" * (n * 11 % 41)) for n in range(200)]
    source = write(tmp_path / "a.en", "".join(pair.source + "\n" for pair in expected))
    target = write(tmp_path / "a.de", "\n".join(pair.target for pair in expected))
    assert pairs(source=source, target=target) == expected


@pytest.mark.parametrize(
    ("source_damage", "target_damage", "culprit"),
    [(9, 5, "a.de, line 5"), (5, 9, "a.en, line 5"), (7, 7, "a.en, line 7")],
)
@pytest.mark.parametrize("in_gzip", [False, True])
def test_the_first_damage_of_two_files_is_named(
    tmp_path: Path, source_damage: int, target_damage: int, culprit: str, in_gzip: bool
) -> None:
    def damaged(line: int) -> bytes:
        lines = [b"good\n"] * 100_000  # more than gzip decompresses at a time
        lines[line - 1] = b"b\xff\n"
        content = b"".join(lines)
        return gzip.compress(content)[:-8] if in_gzip else content  # the end is missing as well

    source = write(tmp_path / "a.en", damaged(source_damage))
    target = write(tmp_path / "a.de", damaged(target_damage))
    with pytest.raises(InputError, match=culprit):
        pairs(source=source, target=target)


# -- TSV


def test_tsv_uses_the_given_columns_and_no_quoting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", '7\t"Hi\tHallo"\tmore\n\n8\tBye\tTschüss\n')
    assert pairs(path, source_column=2, target_column=1) == [
        Pair('Hallo"', '"Hi'),
        Pair("Tschüss", "Bye"),
    ]


def test_a_tsv_line_with_too_few_columns_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv.gz", gzip.compress(b"Hi\tHallo\nBye\n"))
    with pytest.raises(CorpusError, match=r"a\.tsv\.gz, line 2: 1 tab-separated column.* need 2"):
        pairs(path)


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"\xff", "not UTF-8"), (b"\0", "holds a NUL character"), (b"{", r"not valid JSON|1 tab-sep")],
)
def test_lines_are_counted_through_all_blocks(
    tmp_path: Path, name: str, line: bytes, reason: str
) -> None:
    good = b"a\tb\n" if name.endswith("tsv") else b'{"en": "a", "de": "b"}\n'
    path = write(tmp_path / name, good * 12_344 + line + b"\n" + good)
    with pytest.raises(DragomanError, match=f"{name}, line 12345: ({reason})"):
        pairs(path)


# -- JSON lines


@pytest.mark.parametrize(
    ("record", "settings"),
    [
        ({"en": "Hi", "de": "Hallo"}, {}),
        ({"en-GB": "Hi", "en": "no", "de": "Hallo"}, {"source_language": "en-GB"}),
        ({"en": "Hi", "de": "Hallo"}, {"source_language": "en-GB", "target_language": "de-AT"}),
        ({"source": "Hi", "target": "Hallo", "score": 1.5}, {}),
        ({"q": "Hi", "a": "Hallo", "en": "no"}, {"source_key": "q", "target_key": "a"}),
    ],
)
def test_json_lines_keys(tmp_path: Path, record: object, settings: dict[str, str]) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps(record) + "\n\n")
    assert pairs(path, **settings) == [Pair("Hi", "Hallo")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"en": "Hi", "de": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["Hi", "Hallo"]', "not a JSON object such as"),
        ('{"en": "Hi"}', 'has no key "de" or "target"; set source_key or target_key'),
        ('{"en": "Hi", "de": 3}', '"de" is int, not a string'),
        ('{"en": "Hi", "de": null}', '"de" is NoneType, not a string'),
        ('{"en": "\\ud800", "de": "x"}', '"en" holds an escaped NUL or half of a surrogate pair'),
        ('{"en": "x", "de": "a\\u0000b"}', '"de" holds an escaped NUL'),
    ],
)
def test_malformed_json_lines_are_named(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"en": "ok", "de": "gut"}}\n{line}\n')
    with pytest.raises(CorpusError) as caught:
        pairs(path)
    assert f"{path}, line 2: {reason}" in str(caught.value)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a\.xlsx has an unknown format"):
        pairs(write(tmp_path / "a.xlsx", ""))


# -- TMX

HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'


def tmx(*units: str, head: str = HEADER, root: str = '<tmx version="1.4">') -> str:
    return f"{head}{root}<header/><body>\n" + "\n".join(units) + "\n</body></tmx>\n"


def unit(**variants: str) -> str:
    parts = (
        f'<tuv xml:lang="{language.replace("_", "-")}"><seg>{text}</seg></tuv>'
        for language, text in variants.items()
    )
    return f"<tu>{''.join(parts)}</tu>"


def test_tmx_matches_languages_exactly_then_by_primary_subtag(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tmx",
        tmx(
            unit(EN_us="Color", de="Farbe", fr="Couleur"),
            unit(fr="Rien", en="Nothing"),  # no German: not a pair
            unit(de_AT="Sackerl", en_US="bag", en_GB="carrier bag", de="Tüte"),
        ),
    )
    assert pairs(path) == [Pair("Color", "Farbe"), Pair("bag", "Tüte")]
    assert pairs(path, "en-GB", "de-AT")[1] == Pair("carrier bag", "Sackerl")


def test_tmx_distinguishes_variants_of_one_language(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tmx", tmx(unit(zh_CN="软件"), unit(zh_CN="软件", zh_TW="軟體")))
    assert pairs(path, "zh-CN", "zh-TW") == [Pair("软件", "軟體")]


def test_tmx_keeps_text_and_drops_formatting_codes(tmp_path: Path) -> None:
    source = (
        'Press <bpt i="1">&lt;b&gt;</bpt>the <hi>red <hi>big</hi></hi> key<ept i="1">&lt;/b&gt;'
        '</ept><ph>{\\f1 <sub>note</sub>}</ph> &amp; <![CDATA[<wait>]]>&#x2026;<it pos="end">x</it>'
    )
    path = write(tmp_path / "a.tmx", tmx(unit(en=source, de="Rote\n Taste")))
    assert pairs(path) == [Pair("Press the red big key & <wait>…", "Rote\n Taste")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tmx_may_declare_its_encoding_and_may_be_gzip(tmp_path: Path, encoding: str) -> None:
    head = HEADER.replace("UTF-8", encoding.removesuffix("-sig").upper())
    content = tmx(unit(en="Hi", de="Grüße"), head=head).encode(encoding)
    assert pairs(write(tmp_path / "a.tmx", content)) == [Pair("Hi", "Grüße")]
    assert pairs(write(tmp_path / "a.tmx.gz", gzip.compress(content))) == [Pair("Hi", "Grüße")]


def tmx_refused(tmp_path: Path, content: bytes | str) -> str:
    path = write(tmp_path / "a.tmx", content)
    with pytest.raises(CorpusError) as caught:
        pairs(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_tmx_never_reads_an_external_entity(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "the secret")
    head = f'<!DOCTYPE tmx [\n<!ENTITY leak SYSTEM "{secret.as_uri()}">\n]>'
    message = tmx_refused(tmp_path, tmx(unit(en="&leak;", de="x"), head=head))
    assert "line 2: declares the XML entity 'leak'" in message
    assert "the secret" not in message


def test_tmx_never_reads_an_external_dtd(tmp_path: Path) -> None:
    dtd = write(tmp_path / "evil.dtd", '<!ENTITY name "from outside">')
    head = f'<!DOCTYPE tmx SYSTEM "{dtd.as_uri()}">\n'
    message = tmx_refused(tmp_path, tmx(unit(en="&name;", de="x"), head=head))
    assert "line 3: uses the XML entity &name;" in message
    parameter = f'<!DOCTYPE tmx [\n<!ENTITY % all SYSTEM "{dtd.as_uri()}">\n%all;\n]>'
    message = tmx_refused(tmp_path, tmx(unit(en="&name;", de="x"), head=parameter))
    assert "line 2: declares the XML entity 'all'" in message


def test_tmx_refuses_the_billion_laughs_attack(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">\n' for n in range(12))
    message = tmx_refused(
        tmp_path, tmx(unit(en="&l11;", de="x"), head=f"<!DOCTYPE tmx [\n{laughs}]>")
    )
    assert "line 2: declares the XML entity 'l0'" in message


def test_incomplete_tmx_is_refused_with_its_line(tmp_path: Path) -> None:
    content = tmx(*[unit(en="Hi", de="Hallo")] * 100_000)
    path = write(tmp_path / "a.tmx", content[: len(content) // 2])
    reader = read_pairs(CorpusConfig(path=path), source_language="en", target_language="de")
    assert sum(1 for _ in islice(reader, 49_000)) == 49_000  # it streams
    with pytest.raises(CorpusError, match=r"a\.tmx, line 50\d{3}: not well-formed XML"):
        list(reader)


def test_truncated_gzip_of_tmx_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(tmx(*[unit(en=f"{n * n}", de=f"{n}") for n in range(9000)]).encode())
    path = write(tmp_path / "a.tmx.gz", content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.tmx\.gz: the gzip data ends too early; fetch"):
        pairs(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "line 1: not well-formed XML (no element found)"),
        ("Hello\n", "line 1: not well-formed XML (syntax error)"),
        ("<html><body/></html>", "line 1: the root element is <html>, so this is not TMX"),
        (tmx(unit(en="a & b", de="x")), "line 4: not well-formed XML"),
        (tmx(unit(en="&nbsp;", de="x"), head=""), "line 2: not well-formed XML (undefined entity)"),
        (tmx(head="").replace("<body>", "<body>" * 100), "line 1: elements nested more than 64"),
        (
            tmx(unit(fr="x", es="y")),
            "none of its 1 units has both en and de; languages in the file: es, fr",
        ),
        (tmx(), "none of its 0 units has both en and de; languages in the file: none"),
        (tmx(head='<?xml version="1.0" encoding="klingon"?>'), "cannot be read as XML"),
        (tmx(unit(en="Grüße", de="x")).encode("latin-1"), "line 4: not well-formed XML"),
    ],
)
def test_other_broken_tmx(tmp_path: Path, content: bytes | str, reason: str) -> None:
    assert reason in tmx_refused(tmp_path, content)


@pytest.mark.parametrize("what", ["<seg>{}</seg>", '<seg x="{}"/>', "<!-- {} -->"])
def test_tmx_limits_the_size_of_a_unit(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.tmx.gz"
    body = what.format("x" * (40 << 20))
    path.write_bytes(
        gzip.compress(f'<tmx><body><tu><tuv xml:lang="en">{body}</tuv></tu></body></tmx>'.encode())
    )
    with pytest.raises(CorpusError, match=r"longer than 1 MiB|more than 16,777,216 char"):
        pairs(path)


# -- real text


@pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora (../shared/data) are not here")
@pytest.mark.parametrize(
    ("source", "target", "count"),
    [
        ("multi30k/train.en.gz", "multi30k/train.de.gz", 29_000),
        ("tatoeba-zh-en/train.zh.gz", "tatoeba-zh-en/train.en.gz", 25_453),
    ],
)
def test_real_corpora_are_read_completely(source: str, target: str, count: int) -> None:
    found = pairs(source=DATA / source, target=DATA / target)
    lines = gzip.decompress((DATA / target).read_bytes()).decode().split("\n")
    assert len(found) == count
    assert [pair.target for pair in found] == lines[:-1]
