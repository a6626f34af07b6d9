"""The page's files as they are served: headers, size, and that no other file is served."""

import re
from importlib.resources import files

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_characters=1234)


async def page_files(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """The page and all files that it and its modules load, by path."""
    loaded = {"/": await client.get("/")}
    wanted = ["/" + path for path in re.findall(r'(?:src|href)="(page/[^"]+)"', loaded["/"].text)]
    while wanted:
        path = wanted.pop()
        if path not in loaded:
            loaded[path] = await client.get(path)
            names = re.findall(r'(?:from|import) "\./([^"]+)"', loaded[path].text)
            wanted += [f"{path.rpartition('/')[0]}/{name}" for name in names]
    return loaded


async def test_every_file_is_served_and_together_they_are_small(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        served = await page_files(client)
    assert {file.status_code for file in served.values()} == {200}
    assert sum(len(file.content) for file in served.values()) < 60_000
    assert '"maxCharacters": 1234' in served["/"].text


async def test_comment_lines_are_emptied_and_every_other_line_is_delivered(
    serving: Serving,
) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        scripts_and_styles = {
            path: file.text
            for path, file in (await page_files(client)).items()
            if path.endswith((".js", ".css"))
        }
    num_emptied = 0
    for path, text in scripts_and_styles.items():
        name = path.rpartition("/")[2]
        source = files("service").joinpath("page", name).read_text(encoding="utf-8")
        in_comment = False
        for line, delivered in zip(source.split("\n"), text.split("\n"), strict=True):
            words = line.strip()
            in_comment = in_comment or words.startswith("/*")
            is_comment = in_comment or words.startswith("//")
            assert delivered == ("" if is_comment else line), name
            in_comment = in_comment and not words.endswith("*/")
            num_emptied += is_comment
    assert num_emptied > 50


async def test_nothing_comes_from_another_host_or_from_inside_the_page(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        served = await page_files(client)
    for path, file in served.items():
        policy = file.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert file.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", file.text), path
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", file.text)
    page = served["/"].text
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", page)
    assert not re.search(r"<script(?![^>]* src=)", page)


async def test_files_are_cached_for_ever_and_the_page_is_revalidated(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        served = await page_files(client)
        page = served.pop("/")
        assert {file.headers["cache-control"] for file in served.values()} == {
            "public, max-age=31536000, immutable"
        }
        assert page.headers["cache-control"] == "no-cache"
        again = await client.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other_version = await client.get("/page/0123456789abcdef/page.js")
        assert (other_version.status_code, other_version.headers["cache-control"]) == (
            200,
            "no-store",
        )
        head = await client.head("/")
        assert (head.status_code, head.headers["etag"]) == (200, page.headers["etag"])


@pytest.mark.parametrize(
    "path", ["/page/x/nothing.js", "/page/x/index.html", "/page/x/..%2Fapp.py", "/page/x/", "/page"]
)
async def test_no_other_file_is_served(serving: Serving, path: str) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_the_page_is_no_part_of_the_documented_api(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/page")]
