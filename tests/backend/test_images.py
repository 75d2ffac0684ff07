"""From an image reference to a file: what is fetched, what is refused, and what is said."""

from __future__ import annotations

import base64
import gzip
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from srpu_backend.images import ImageStore, ImageUnavailable
from srpu_backend.images.references import shown
from srpu_backend.projects import Connection
from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast

TOKEN = "Token secret-of-the-lab"
PIXELS = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)


def encoded(pixels: np.ndarray = PIXELS, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


PNG = encoded()


@dataclass
class Site:
    """A web server of one test: answers by path, remembers who asked for what."""

    url: str = ""
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def netloc(self) -> str:
        return urlsplit(self.url).netloc

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def tokens(self) -> set[str | None]:
        return {headers.get("Authorization") for _, headers in self.asked}

    def gives(self, path: str, body: bytes = PNG, status: int = 200, **headers: str) -> str:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            etag = headers.get("ETag")
            if etag and handler.headers.get("If-None-Match") == etag:
                handler.send_response(304)
                handler.end_headers()
                return
            handler.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer
        return self.url + path

    def redirects(self, path: str, to: str, status: int = 302) -> str:
        return self.gives(path, b"", status, Location=to)


@pytest.fixture
def new_site() -> Iterator[Callable[[], Site]]:
    servers: list[ThreadingHTTPServer] = []

    def make() -> Site:
        site = Site()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, dict(self.headers)))
                answer = site.answers.get(self.path) or site.answers.get(self.path.split("?")[0])
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = False  # closing waits for the last answer
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        return site

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def studio(new_site: Callable[[], Site]) -> Site:
    """Stands for the connected Label Studio."""
    return new_site()


@pytest.fixture
def elsewhere(new_site: Callable[[], Site]) -> Site:
    """Any other host."""
    return new_site()


@pytest.fixture
def connection(studio: Site) -> Connection:
    return Connection(studio.url, SecretStr(TOKEN.removeprefix("Token ")))


class Clock:
    """Unix time that stands still until told."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_store(tmp_path: Path, clock: Clock) -> Callable[..., ImageStore]:
    def make(**settings: object) -> ImageStore:
        folder = tmp_path / "images"
        chosen = {"model_dir": tmp_path, "image_timeout": 5.0, **settings}
        return ImageStore(Settings(**chosen), folder, authorise=_authorise, now=clock)  # type: ignore[arg-type]

    return make


def _authorise(connection: Connection, renew: bool) -> str:
    return f"Token {connection.token.get_secret_value()}"


@pytest.fixture
def store(new_store: Callable[..., ImageStore]) -> ImageStore:
    return new_store()


def refusal(store: ImageStore, reference: object, connection: Connection | None, **options: object) -> str:
    """The one sentence with which a reference is refused."""
    with pytest.raises(ImageUnavailable) as caught:
        store.fetch(reference, connection, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 500
    assert "secret" not in text
    return text


# Label Studio's own references


@pytest.mark.parametrize(
    "reference",
    ["/data/upload/1/b9b1f682-sem_5.png", "/data/local-files/?d=images/sem 16 bit µ.png"],
)
def test_an_image_of_label_studio_is_fetched_with_our_token(store, studio, connection, reference):
    studio.gives("/data/upload/1/b9b1f682-sem_5.png")
    studio.gives("/data/local-files/")
    path = store.fetch(reference, connection)
    assert path.read_bytes() == PNG
    assert studio.tokens() == {TOKEN}
    assert np.array_equal(store.load(reference, connection), PIXELS)
    query = parse_qs(urlsplit(studio.paths()[0]).query)
    assert query.get("d", ["images/sem 16 bit µ.png"]) == ["images/sem 16 bit µ.png"]


def test_files_are_named_by_their_content_and_format_whatever_the_reference_says(store, studio, connection):
    studio.gives("/data/upload/1/a.png")
    studio.gives("/data/upload/1/b.jpg", encoded((PIXELS % 256).astype(np.uint8), "TIFF"))
    studio.gives("/data/upload/1/c")
    first, second, third = (
        store.fetch(f"/data/upload/1/{name}", connection) for name in ("a.png", "b.jpg", "c")
    )
    assert first == third
    assert first.suffix == ".png"
    assert second.suffix == ".tif"
    assert first.parent.name == first.stem[:2]
    assert len(first.stem) == 64


def test_an_absolute_address_of_label_studio_is_label_studio(store, studio, connection):
    studio.gives("/data/local-files/")
    store.fetch(f"{studio.url}/data/local-files/?d=a/b.png", connection)
    store.fetch(f"{studio.url.replace('http', 'HTTP')}/data/local-files/?d=a/c.png", connection)
    assert studio.tokens() == {TOKEN}


def test_an_old_name_of_label_studio_in_a_task_means_the_one_we_are_connected_to(
    store, studio, elsewhere, connection
):
    studio.gives("/data/local-files/")
    store.fetch(f"{elsewhere.url}/data/local-files/?d=a/b.png", connection)
    store.fetch("http://label-studio.invalid:8080/data/local-files/?d=a/c.png", connection)
    assert len(studio.asked) == 2
    assert not elsewhere.asked


def test_label_studio_below_a_path_is_asked_below_it(store, studio):
    studio.gives("/labels/data/upload/1/a.png")
    connection = Connection(studio.url + "/labels/", SecretStr("x"))
    assert store.fetch("/data/upload/1/a.png", connection) == store.fetch(
        "/labels/data/upload/1/a.png", connection
    )
    assert set(studio.paths()) == {"/labels/data/upload/1/a.png"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks/1",
        "/data/upload/../../api/tasks/1",
        "/data/upload/%2e%2e/%2e%2e/api/tasks/1",
        "/tasks/1/resolve/../../../api/tasks/1",
        "/user/logout",
        "/",
    ],
)
def test_label_studio_is_asked_for_images_only(store, studio, connection, path):
    refusal(store, studio.url + path, connection)
    refusal(store, path, connection)
    assert not studio.asked


def test_without_a_connection_a_sentence_says_what_to_do(store):
    assert "LABEL_STUDIO_URL" in refusal(store, "/data/upload/1/a.png", None)


@pytest.mark.parametrize("reference", [None, "", "  ", 7, ["/data/upload/1/a.png"]])
def test_a_task_without_an_image_says_so(store, connection, reference):
    assert "The task has no image" in refusal(store, reference, connection)


# Tokens


def test_a_refused_token_is_renewed_once(tmp_path, studio, connection):
    studio.gives("/data/upload/1/a.png")
    answer = studio.answers["/data/upload/1/a.png"]

    def strict(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("Authorization") == "Bearer fresh":
            answer(handler)
        else:
            handler.send_error(401)

    studio.answers["/data/upload/1/a.png"] = strict
    store = ImageStore(
        Settings(model_dir=tmp_path), authorise=lambda _, renew: f"Bearer {'fresh' if renew else 'stale'}"
    )
    assert store.fetch("/data/upload/1/a.png", connection).read_bytes() == PNG
    assert len(studio.asked) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "token"), (403, "token"), (404, "storage"), (400, "refuses"), (500, "failed"), (503, "failed")],
)
def test_what_label_studio_answers_is_told(store, studio, connection, status, words):
    studio.gives("/data/upload/1/a.png", b"<html>no</html>", status)
    text = refusal(store, "/data/upload/1/a.png", connection)
    assert words in text
    assert str(status) in text
    assert "/data/upload/1/a.png" in text


def test_being_sent_to_the_login_page_is_about_the_token(store, studio, connection):
    studio.redirects("/data/upload/1/a.png", "/user/login/?next=/data/upload/1/a.png")
    assert "token" in refusal(store, "/data/upload/1/a.png", connection)
    assert studio.paths() == ["/data/upload/1/a.png"]


def test_netrc_does_not_take_the_place_of_our_token(store, studio, connection, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login mallory password m\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    studio.gives("/data/upload/1/a.png")
    store.fetch("/data/upload/1/a.png", connection)
    assert studio.tokens() == {TOKEN}


# Other hosts


def test_another_host_is_asked_only_when_allowed_and_never_with_our_token(
    store, new_store, elsewhere, connection
):
    reference = elsewhere.gives("/sem.png") + "?signature=secret"
    assert f"add {elsewhere.netloc} to SRPU_ALLOWED_IMAGE_HOSTS" in refusal(store, reference, connection)
    assert not elsewhere.asked
    store = new_store(allowed_image_hosts=f"images.example, {elsewhere.netloc}")
    assert store.fetch(reference, connection).read_bytes() == PNG
    assert elsewhere.tokens() == {None}


def test_a_host_is_allowed_with_one_port_or_with_all(new_store, elsewhere, connection):
    elsewhere.gives("/sem.png")
    assert new_store(allowed_image_hosts="127.0.0.1").fetch(elsewhere.url + "/sem.png", connection)
    refusal(new_store(allowed_image_hosts="127.0.0.1:1"), elsewhere.url + "/other.png", connection)


@pytest.mark.parametrize(
    "reference",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/a.png",
        "http://user:secret@{studio}/data/upload/1/a.png",
        "http://{studio}@{other}/a.png",
        "http://{other}\\@{studio}/data/upload/1/a.png",
        "http://{other}#@{studio}/a.png",
        "http://[::1]/a.png",
        "http://[oops/a.png",
        "http:///a.png",
        "http://{other}:99999/a.png",
        "http://ⓔxample.com/a.png",
        "http://{other}/a\r\nX-Injected: 1",
        "//{other}/a.png",
        "ftp://{other}/a.png",
        "gopher://{other}/a.png",
        "javascript:alert(1)",
    ],
)
def test_addresses_made_to_mislead_reach_nobody(store, studio, elsewhere, connection, reference):
    reference = reference.format(studio=studio.netloc, other=elsewhere.netloc)
    refusal(store, reference, connection)
    assert not elsewhere.asked
    assert not studio.asked


def test_redirects_are_checked_at_every_hop(new_store, studio, elsewhere, new_site, connection):
    third = new_site()
    third.gives("/secret.png")
    elsewhere.redirects("/a.png", third.url + "/secret.png")
    store = new_store(allowed_image_hosts=elsewhere.netloc)
    assert third.netloc in refusal(store, elsewhere.url + "/a.png", connection)
    assert not third.asked

    elsewhere.redirects("/b.png", studio.gives("/data/upload/1/a.png"))
    refusal(store, elsewhere.url + "/b.png", connection)
    assert not studio.asked


def test_the_token_stays_with_label_studio_when_it_redirects(new_store, studio, elsewhere, connection):
    studio.redirects("/data/upload/1/a.png", elsewhere.gives("/sem.png"))
    refusal(new_store(), "/data/upload/1/a.png", connection)
    assert not elsewhere.asked
    new_store(allowed_image_hosts=elsewhere.netloc).fetch("/data/upload/1/a.png", connection)
    assert elsewhere.tokens() == {None}


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://x/a.png", "http://a:b@x/", ""])
def test_redirects_lead_to_addresses_only(new_store, elsewhere, connection, to):
    elsewhere.redirects("/a.png", to)
    refusal(new_store(allowed_image_hosts=elsewhere.netloc), elsewhere.url + "/a.png", connection)


def test_redirects_come_to_an_end(new_store, elsewhere, connection):
    elsewhere.redirects("/a.png", "/a.png")
    store = new_store(allowed_image_hosts=elsewhere.netloc)
    assert "redirected more than" in refusal(store, elsewhere.url + "/a.png", connection)
    assert len(elsewhere.asked) == 5


# Cloud storages


@pytest.mark.parametrize("scheme", ["s3", "gs", "azure-blob"])
def test_cloud_references_are_resolved_by_label_studio_and_fetched_without_our_token(
    store, studio, elsewhere, connection, scheme
):
    reference = f"{scheme}://bucket/sem 1.png"
    studio.redirects("/tasks/17/resolve/", elsewhere.gives("/bucket/sem.png") + "?X-Sig=a%2Fb%3D", 303)
    assert store.fetch(reference, connection, task_id=17).read_bytes() == PNG
    path, headers = studio.asked[0]
    code = parse_qs(urlsplit(path).query)["fileuri"][0]
    assert base64.urlsafe_b64decode(code).decode() == reference
    assert headers["Authorization"] == TOKEN
    assert elsewhere.paths() == ["/bucket/sem.png?X-Sig=a%2Fb%3D"]
    assert elsewhere.tokens() == {None}


def test_a_storage_may_not_lead_on_to_other_hosts(store, studio, elsewhere, new_site, connection):
    third = new_site()
    third.gives("/sem.png")
    studio.redirects("/tasks/17/resolve/", elsewhere.url + "/sem.png", 303)
    elsewhere.redirects("/sem.png", third.url + "/sem.png")
    refusal(store, "s3://bucket/sem.png", connection, task_id=17)
    assert not third.asked


def test_label_studio_may_proxy_a_storage(store, studio, connection):
    studio.gives("/tasks/17/resolve/")
    assert store.fetch("s3://bucket/sem.png", connection, task_id=17).read_bytes() == PNG


def test_a_cloud_reference_is_one_image_whichever_task_asks(store, studio, connection):
    studio.gives("/tasks/17/resolve/", ETag='"1"')
    first = store.fetch("s3://bucket/sem.png", connection, task_id=17)
    assert store.fetch("s3://bucket/sem.png", connection, task_id=18) == first


def test_a_cloud_reference_needs_its_task(store, connection):
    for task_id in (None, "1/../../api/tasks/1?"):
        assert "id of its task" in refusal(store, "s3://bucket/sem.png", connection, task_id=task_id)


# Files


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    folder.mkdir()
    (folder / "sem 1.tif").write_bytes(encoded(PIXELS, "TIFF"))
    (tmp_path / "outside.png").write_bytes(PNG)
    return folder


def test_originals_are_read_from_allowed_folders(new_store, originals, tmp_path):
    store = new_store(allowed_image_folders=f"{tmp_path}/nowhere:{originals}")
    references = [str(originals / "sem 1.tif"), f"file://{originals}/sem%201.tif", "sem 1.tif"]
    paths = {store.fetch(reference, None) for reference in references}
    assert len(paths) == 1
    assert paths.pop().is_relative_to(tmp_path / "images")
    assert np.array_equal(store.load(references[0], None), PIXELS)


def test_nothing_outside_the_allowed_folders_is_read(store, new_store, originals, tmp_path):
    (originals / "link.png").symlink_to(tmp_path / "outside.png")
    (originals / "loop.png").symlink_to(originals / "loop.png")
    (tmp_path / "originals-private").mkdir()
    (tmp_path / "originals-private" / "a.png").write_bytes(PNG)
    allowed = new_store(allowed_image_folders=str(originals))
    for reference in [
        str(tmp_path / "outside.png"),
        f"{originals}/../outside.png",
        "../outside.png",
        f"file://{originals}/%2e%2e/outside.png",
        str(originals / "link.png"),
        str(originals / "loop.png"),
        str(tmp_path / "originals-private" / "a.png"),
        "/etc/passwd",
        "file:///etc/passwd",
        f"file://otherhost{originals}/sem%201.tif",
        "sem\0.tif",
        "~/a.png",
    ]:
        refusal(allowed, reference, None)
    assert "SRPU_ALLOWED_IMAGE_FOLDERS" in refusal(store, str(originals / "sem 1.tif"), None)


def test_a_link_within_the_allowed_folders_may_be_followed(new_store, originals):
    (originals / "newest.tif").symlink_to(originals / "sem 1.tif")
    assert new_store(allowed_image_folders=str(originals)).fetch(str(originals / "newest.tif"), None)


def test_folders_pipes_and_missing_files_are_refused_at_once(new_store, originals):
    store = new_store(allowed_image_folders=str(originals))
    os.mkfifo(originals / "pipe.png")
    assert "not a file" in refusal(store, str(originals / "pipe.png"), None)
    assert "not a file" in refusal(store, str(originals), None)
    assert "does not exist" in refusal(store, str(originals / "none.png"), None)


def test_a_changed_original_is_a_new_image_and_the_old_one_stays(new_store, originals):
    store = new_store(allowed_image_folders=str(originals))
    original = originals / "sem 1.tif"
    before = store.fetch(str(original), None)
    assert store.fetch(str(original), None) == before
    original.write_bytes(encoded(PIXELS + np.uint16(1), "TIFF"))
    after = store.fetch(str(original), None)
    assert after != before
    assert before.read_bytes() == encoded(PIXELS, "TIFF")


def test_an_image_may_lie_in_the_task_itself(store):
    reference = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert store.fetch(reference, None).read_bytes() == PNG
    for broken in ("data:image/png;base64,%%%", "data:text/html,hello", "data:"):
        refusal(store, broken, None)


# What arrives


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Log in</html>", "is a web page (perhaps a login page)"),
        (b"not an image at all", "is a text file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG"),
        (PNG[:20], "cannot be read"),
    ],
    ids=["empty", "html", "text", "svg", "cut header"],
)
def test_what_is_no_image_is_refused_and_not_kept(store, studio, connection, tmp_path, body, words):
    studio.gives("/data/upload/1/a.png", body)
    assert words in refusal(store, "/data/upload/1/a.png", connection)
    assert not [
        path for path in (tmp_path / "images").rglob("*") if path.is_file() and "locks" not in path.parts
    ]
    studio.gives("/data/upload/1/a.png")
    assert store.fetch("/data/upload/1/a.png", connection)


def test_a_damaged_image_is_told_when_it_is_loaded(store, studio, connection):
    studio.gives("/data/upload/1/a.png", PNG[: len(PNG) // 2])
    with pytest.raises(ImageUnavailable, match=r"^/data/upload/1/a\.png is a damaged"):
        store.load("/data/upload/1/a.png", connection)


def test_too_many_bytes_are_refused_by_their_announcement_and_by_their_arrival(
    new_store, studio, connection, originals
):
    store = new_store(max_image_bytes=len(PNG) - 1, allowed_image_folders=str(originals))
    studio.gives("/data/upload/1/a.png")
    assert "SRPU_MAX_IMAGE_BYTES" in refusal(store, "/data/upload/1/a.png", connection)
    assert "SRPU_MAX_IMAGE_BYTES" in refusal(store, str(originals / "sem 1.tif"), connection)

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(2**16))
        except OSError:
            pass

    studio.answers["/data/upload/1/b.png"] = endless
    assert "SRPU_MAX_IMAGE_BYTES" in refusal(store, "/data/upload/1/b.png", connection)


def test_a_compressed_bomb_is_stopped_at_the_bound(new_store, studio, connection):
    studio.gives("/data/upload/1/a.png", gzip.compress(bytes(10**8)), Content_Encoding="gzip")
    store = new_store(max_image_bytes=10**6)
    assert "SRPU_MAX_IMAGE_BYTES" in refusal(store, "/data/upload/1/a.png", connection)
    studio.gives("/data/upload/1/b.png", gzip.compress(PNG), Content_Encoding="gzip")
    assert store.fetch("/data/upload/1/b.png", connection).read_bytes() == PNG


def test_too_many_pixels_are_refused_on_the_header(new_store, studio, connection):
    studio.gives("/data/upload/1/a.png")
    store = new_store(max_image_pixels=64 * 48 - 1)
    assert "64 × 48 px" in refusal(store, "/data/upload/1/a.png", connection)


def test_a_body_cut_short_is_refused(store, studio, connection):
    studio.gives("/data/upload/1/a.png", PNG[:-30], Content_Length=str(len(PNG)))
    assert "cannot be reached" in refusal(store, "/data/upload/1/a.png", connection)


def test_a_server_that_does_not_answer_is_given_up(new_store, studio, connection):
    release = threading.Event()
    studio.answers["/data/upload/1/a.png"] = lambda _: release.wait(30) and None
    try:
        text = refusal(new_store(image_timeout=0.2), "/data/upload/1/a.png", connection)
    finally:
        release.set()
    assert "0.2 s" in text


def test_a_server_that_drips_is_given_up(new_store, studio, connection):
    release = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not release.wait(0.01):
                handler.wfile.write(b"\x89")
        except OSError:
            pass

    studio.answers["/data/upload/1/a.png"] = drip
    try:
        text = refusal(new_store(image_timeout=0.3), "/data/upload/1/a.png", connection)
    finally:
        release.set()
    assert "0.3 s" in text


def test_a_server_that_is_not_there_is_told(store, studio):
    connection = Connection("http://127.0.0.1:9", SecretStr("x"))
    assert "cannot be reached" in refusal(store, "/data/upload/1/a.png", connection)


# The cache


def test_uploads_never_change_and_are_asked_for_once(store, studio, connection, clock):
    studio.gives("/data/upload/1/a.png", ETag='"1"')
    first = store.fetch("/data/upload/1/a.png", connection)
    clock.time += 10**7
    assert store.fetch("/data/upload/1/a.png", connection) == first
    assert len(studio.asked) == 1


def test_other_images_are_asked_for_again_and_a_304_keeps_them(store, studio, connection, clock):
    studio.gives("/data/local-files/", ETag='W/"1"')
    first = store.fetch("/data/local-files/?d=a.png", connection)
    assert store.fetch("/data/local-files/?d=a.png", connection) == first
    assert len(studio.asked) == 1
    clock.time += 61
    assert store.fetch("/data/local-files/?d=a.png", connection) == first
    assert studio.asked[1][1]["If-None-Match"] == 'W/"1"'
    store.fetch("/data/local-files/?d=a.png", connection)
    assert len(studio.asked) == 2

    clock.time += 61
    studio.gives("/data/local-files/", encoded(PIXELS + np.uint16(1)), ETag='W/"2"')
    assert store.fetch("/data/local-files/?d=a.png", connection) != first
    assert first.read_bytes() == PNG


def test_without_validators_the_whole_image_is_fetched_only_now_and_then(store, studio, connection, clock):
    studio.gives("/data/local-files/")
    store.fetch("/data/local-files/?d=a.png", connection)
    clock.time += 3000
    store.fetch("/data/local-files/?d=a.png", connection)
    assert len(studio.asked) == 1
    clock.time += 3000
    store.fetch("/data/local-files/?d=a.png", connection)
    assert len(studio.asked) == 2


def test_the_cache_stands_in_while_label_studio_is_away_but_not_for_what_is_gone(
    store, studio, connection, clock
):
    studio.gives("/data/local-files/", ETag='"1"')
    first = store.fetch("/data/local-files/?d=a.png", connection)
    clock.time += 61
    studio.gives("/data/local-files/", b"", 503)
    assert store.fetch("/data/local-files/?d=a.png", connection) == first
    studio.gives("/data/local-files/", b"", 404)
    refusal(store, "/data/local-files/?d=a.png", connection)


@pytest.mark.parametrize("damage", [b"", PNG[:-1], PNG[:-1] + b"x"], ids=["emptied", "cut", "flipped"])
def test_a_damaged_file_in_the_cache_is_fetched_anew(store, new_store, studio, connection, damage):
    studio.gives("/data/upload/1/a.png", ETag='"1"')
    path = store.fetch("/data/upload/1/a.png", connection)
    assert store.fetch("/data/upload/1/a.png", connection) == path
    for reader in (store, new_store()):
        before = path.stat()
        path.write_bytes(damage)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert reader.fetch("/data/upload/1/a.png", connection).read_bytes() == PNG
    path.unlink()
    assert store.fetch("/data/upload/1/a.png", connection).read_bytes() == PNG


def test_a_damaged_index_is_written_anew(store, studio, connection, tmp_path):
    studio.gives("/data/upload/1/a.png")
    store.fetch("/data/upload/1/a.png", connection)
    for path in (tmp_path / "images" / "index").iterdir():
        path.write_text("{ half a")
    assert store.fetch("/data/upload/1/a.png", connection).read_bytes() == PNG
    assert store.fetch("/data/upload/1/a.png", connection)
    assert len(studio.asked) == 2


def test_another_process_finds_what_we_fetched(store, new_store, studio, connection):
    studio.gives("/data/upload/1/a.png")
    assert store.fetch("/data/upload/1/a.png", connection) == new_store().fetch(
        "/data/upload/1/a.png", connection
    )
    assert len(studio.asked) == 1


def test_one_reference_on_two_label_studios_is_two_images(store, studio, elsewhere, connection):
    studio.gives("/data/upload/1/a.png")
    elsewhere.gives("/data/upload/1/a.png", encoded(PIXELS + np.uint16(1)))
    other = Connection(elsewhere.url, SecretStr("x"))
    assert store.fetch("/data/upload/1/a.png", connection) != store.fetch("/data/upload/1/a.png", other)


def test_many_asking_at_once_make_one_download(new_store, studio, connection):
    started = threading.Barrier(8)
    studio.gives("/data/upload/1/a.png")

    def ask(store: ImageStore) -> Path:
        started.wait(10)
        return store.fetch("/data/upload/1/a.png", connection)

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(ask, [new_store() for _ in range(8)]))
    assert len(paths) == 1
    assert len(studio.asked) == 1


def test_what_a_killed_process_left_is_removed_in_time(store, new_store, tmp_path):
    incoming = tmp_path / "images" / "incoming"
    (incoming / "old").touch()
    (incoming / "new").touch()
    long_ago = time.time() - 2 * 86_400
    os.utime(incoming / "old", (long_ago, long_ago))
    new_store()
    assert [path.name for path in incoming.iterdir()] == ["new"]


def test_a_full_disk_is_told(store, studio, connection, monkeypatch):
    studio.gives("/data/upload/1/a.png")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srpu_backend.images.cache.os.fsync", full)
    assert "No space left on device" in refusal(store, "/data/upload/1/a.png", connection)


def test_signatures_do_not_appear_in_messages():
    assert shown("https://bucket/a.png?X-Signature=secret") == "https://bucket/a.png?…"
    assert shown("data:image/png;base64," + "A" * 10**6) == "data:image/png;base64,AAAAAAAAAA…"
    assert len(shown("x" * 10**6)) < 300
