"""What a browser gets of the page, and what it may do with it."""

from __future__ import annotations

import re

import pytest

from tests.http.serving import Client


async def test_every_file_that_the_page_names_is_served(client: Client) -> None:
    """The page and its modules load nothing that is not here, and nothing from elsewhere."""
    _, page = await client.ask("GET", "/")
    waiting = set(re.findall(r'"page/([^"]+)"', page.decode()))
    assert waiting >= {"app.js", "style.css", "icon.svg"}
    seen: set[str] = set()
    while waiting - seen:
        file = (waiting - seen).pop()
        seen.add(file)
        response, body = await client.ask("GET", f"/page/{file}")
        assert response.status == 200, f"{file} is named and not there"
        assert response.content_type in ("text/javascript", "text/css", "image/svg+xml", "font/woff2")
        if response.content_type != "font/woff2":
            assert b"https://" not in body and b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            waiting |= set(re.findall(r"""(?:from|import|url)[ (]*["']\./([^"']+)["']""", body.decode()))


async def test_the_page_is_compressed_where_that_is_taken(client: Client) -> None:
    """A browser that takes gzip gets the same bytes in fewer; the two forms have their own strong entity tags."""
    answers = {}
    for coding in ("identity", "gzip", "br, gzip;q=0.8", "gzip;q=0, br", "x-gzip"):
        response, body = await client.ask("GET", "/page/app.js", headers={"Accept-Encoding": coding})
        assert response.status == 200 and "Accept-Encoding" in response.headers["Vary"]
        answers[coding] = (response.headers.get("Content-Encoding"), response.headers["ETag"], body)
        size = int(response.headers["Content-Length"])
        assert (size < len(body)) == (answers[coding][0] == "gzip")
    assert [packed for packed, _, _ in answers.values()] == [None, "gzip", "gzip", None, "gzip"]
    assert len({body for _, _, body in answers.values()}) == 1
    tags = {packed: tag for packed, tag, _ in answers.values()}
    assert len(set(tags.values())) == 2 and not any(tag.startswith("W/") for tag in tags.values())


@pytest.mark.parametrize("path", ["/", "/page/app.js"])
async def test_what_a_browser_has_is_not_sent_again(client: Client, path: str) -> None:
    """With the entity tag it got, a browser is told that nothing changed (304), and with another it gets the file."""
    response, _ = await client.ask("GET", path)
    tag = response.headers["ETag"]
    assert response.headers["Cache-Control"] == "no-cache"
    for known, status in ((tag, 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200), ("x", 200), ("", 200)):
        response, body = await client.ask("GET", path, headers={"If-None-Match": known})
        assert response.status == status and bool(body) == (status == 200)
        assert response.headers["ETag"] == tag


async def test_the_page_may_use_the_camera_and_nothing_foreign(client: Client) -> None:
    """Its policies let it show pictures from memory and the visitor's own camera, for this origin alone."""
    response, _ = await client.ask("GET", "/")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert policy["img-src"] == "'self' data: blob:" and "mediastream:" in policy["media-src"]
    assert "camera=(self), microphone=(self)" in response.headers["Permissions-Policy"]
