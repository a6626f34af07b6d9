"""The page's files as they are served: their headers, their size, and that there are no others."""

import re

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serving
from tests.service.fakes import fake_registry

pytestmark = pytest.mark.anyio
SETTINGS = Settings(max_characters=1234)


async def page_files(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """The page and everything that it and its modules ask for, by path."""
    found = {"/": await client.get("/")}
    wanted = ["/" + path for path in re.findall(r'(?:src|href)="(page/[^"]+)"', found["/"].text)]
    while wanted:
        path = wanted.pop()
        if path not in found:
            found[path] = await client.get(path)
            names = re.findall(r'from "\./([^"]+)"', found[path].text)
            wanted += [f"{path.rpartition('/')[0]}/{name}" for name in names]
    return found


async def test_every_file_is_there_and_all_are_small(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        files = await page_files(client)
    assert {file.status_code for file in files.values()} == {200}
    assert sum(len(file.content) for file in files.values()) < 62_000
    assert '"maxCharacters": 1234' in files["/"].text


async def test_nothing_comes_from_another_host_or_from_inside_the_page(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        files = await page_files(client)
    for path, file in files.items():
        policy = file.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert file.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", file.text), path
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", file.text)
    page = files["/"].text
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", page)
    assert not re.search(r"<script(?![^>]* src=)", page)


async def test_files_are_kept_for_ever_and_the_page_is_asked_for_again(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        files = await page_files(client)
        page = files.pop("/")
        assert {file.headers["cache-control"] for file in files.values()} == {
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
async def test_no_other_file(serving: Serving, path: str) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_the_page_is_no_part_of_the_documented_api(serving: Serving) -> None:
    async with serving(fake_registry(SETTINGS, "en-de"), SETTINGS) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/page")]
