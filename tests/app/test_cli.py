"""The command line on a real record: the same rows as over HTTP, one JSON document, one line for a refusal."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import cv2
import pytest
from sqlalchemy.exc import OperationalError

from app.cli import main
from app.cli.output import every
from inspection import choice, questions
from inspection.drawn import drawn
from inspection.training import topics
from models.topics import Topics

Run = Callable[..., tuple[int, str, str]]
LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `normal` and `test` of drawn parts; `data` will hold the record."""
    root = tmp_path_factory.mktemp("cli")
    for folder, parts in (
        ("normal", [(i, None) for i in range(10)]),
        ("test", [(50, None), (51, "missing"), (52, "stain")]),
    ):
        (root / folder).mkdir()
        for index, defect in parts:
            picture, _ = drawn(4, index, defect)
            cv2.imwrite(str(root / folder / f"{index}-{defect}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return root


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("KENSOR_DATA", str(place / "data"))
    monkeypatch.chdir(place)
    for name in ("KENSOR_DATABASE_URL", "KENSOR_STORE_URL", "KENSOR_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kensor", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as leave:
            code = int(leave.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def enrolled(run: Run, place: Path) -> dict[str, Any]:
    """Recipe 1 of `disc`, promoted; made once."""
    code, out, _ = run("recipe", "list", "disc", "--json")
    if code:
        code, out, err = run("enroll", "disc", "--normal", place / "normal", "--backbone", LITE, "--promote", "--json")
        assert code == 0, err
        return json.loads(out)
    return json.loads(out)[-1]


def test_help_comes_at_once() -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "app.cli", "--help"], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    assert done.returncode == 0 and "inspect" in done.stdout
    assert seconds < 2.5, f"{seconds:.1f} s"  # 0.4 s on a quiet machine
    code = "import sys, app.cli; print(*(m for m in ('torch', 'anomalib', 'numpy', 'sqlalchemy', 'fastapi') if m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout.strip() == "", "heavy libraries are imported by the commands that need them"


def test_enroll_prints_limits_and_risk(run: Run, enrolled: dict[str, Any]) -> None:
    assert enrolled["promoted"] and enrolled["number"] == 1
    limits = enrolled["thresholds"]
    assert 0 < limits["review"]["raw"] < limits["reject"]["raw"]
    code, out, _ = run("recipe", "show", "disc", "1")
    assert code == 0 and "with 90 % confidence between" in out and enrolled["sha256"] in out
    assert "self-test  AUROC " in out and "52 painted defects" in out and "scratch " in out and "chosen " not in out


def test_inspect_records_each_picture_and_one_bad_file_fails_alone(run: Run, place: Path, enrolled: dict[str, Any]) -> None:
    bad = place / "not-a-picture.png"
    bad.write_text("hello")
    code, out, _ = run("inspect", "disc", place / "test", bad, "--lot", "L7", "--json")
    assert code == 1
    document = json.loads(out)
    assert (document["done"], document["failed"]) == (3, 1)
    verdicts = {Path(i["file"]).stem: i["inspection"]["verdict"] for i in document["items"] if "inspection" in i}
    assert verdicts["51-missing"] == verdicts["52-stain"] == "reject" and verdicts["50-None"] != "reject"
    assert document["items"][-1]["error"]["code"] == "not_an_image"
    assert {i["inspection"]["lot"] for i in document["items"] if "inspection" in i} == {"L7"}
    assert all(i["inspection"]["created_by"] == "cli" for i in document["items"] if "inspection" in i)


def test_what_was_judged_is_told_however_the_run_ends(
    run: Run, place: Path, enrolled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.services import inspections

    whole = inspections.inspect
    read, calls = Path.read_bytes, 0

    def gone(path: Path) -> bytes:
        if path.name.startswith("50-"):
            raise FileNotFoundError(2, "No such file or directory")
        return read(path)

    def interrupted(*of: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return whole(*of)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", gone)
        patched.setattr(inspections, "inspect", interrupted)
        code, out, _ = run("inspect", "disc", place / "test", "--json")
    broken = iter([whole, None])

    def away(*of: Any) -> Any:
        if (judge := next(broken)) is None:
            raise OperationalError("INSERT", {}, Exception("secret of the driver"))
        return judge(*of)

    with monkeypatch.context() as patched:
        patched.setattr(inspections, "inspect", away)
        ended, shown, said = run("inspect", "disc", place / "test", "--json")
    document = json.loads(shown)  # one, whatever happened
    assert (ended, document["done"], document["error"]["code"]) == (1, 1, "database_unavailable")
    assert "The database does not answer" in said and "secret" not in shown + said
    items = json.loads(out)["items"]
    assert code == 130 and [set(item) - {"file"} for item in items] == [{"error"}, {"inspection"}]
    assert items[0]["error"] == {"code": "unreadable", "message": "The file cannot be read: No such file or directory."}


def test_pictures_given_before_are_named_and_may_be_taken_out(run: Run, place: Path) -> None:
    fast = ("--backbone", LITE, "--image-size", "64", "--coreset", "50")
    for folder, indices in (("one", (80, 81, 82)), ("two", (83,))):
        (place / folder).mkdir()
        for index in indices:
            cv2.imwrite(str(place / folder / f"{index}.png"), cv2.cvtColor(drawn(4, index)[0], cv2.COLOR_RGB2BGR))
    code, out, err = run("enroll", "twice", "--normal", place / "one", *fast)
    assert code == 0 and "given before" not in out, err
    code, out, err = run("enroll", "twice", "--normal", place / "two", *fast)
    assert code == 0 and "also 3 given before: `kensor product images twice`" in out, err
    code, out, _ = run("product", "images", "twice", "--remove", "80.png", "--json")
    names = {item["filename"]: item["id"] for item in json.loads(out)["items"]}
    assert code == 0 and set(names) == {"81.png", "82.png", "83.png"}
    assert run("product", "images", "twice", "--remove", names["81.png"], "--remove", "nothing")[0] == 1  # all or none
    assert "81.png" in run("product", "images", "twice")[1]
    code, out, _ = run("enroll", "twice", "--normal", place / "two", *fast, "--json")
    assert code == 0 and len(json.loads(out)["normals"]) == 3


def test_a_job_is_gone_on_with_where_another_worker_leaves_it(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.worker import Worker

    once, turns = Worker.once, iter([False, False])
    monkeypatch.setattr(Worker, "once", lambda self, only=None: next(turns, None) is None and once(self, only))
    small = ("--backbone", LITE, "--image-size", "64", "--coreset", "50")
    assert run("enroll", "handed", "--normal", place / "normal", *small)[0] == 0

    def full(self: Worker, only: str | None = None) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Worker, "once", full)
    code, _, err = run("enroll", "handed", "--normal", place / "normal", *small, "--seed", "1")
    assert code == 1 and "No space left" in err


def test_a_file_of_settings_reaches_the_weights(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KENSOR_HOME", "later restored")
    monkeypatch.delenv("KENSOR_HOME")
    monkeypatch.setenv("HOME", str(place))
    try:
        (place / ".env").write_text("KENSOR_HOME=~/shelf\n")
        code, out, _ = run("weights", "list")
        assert code == 0 and f"Shelf: {place / 'shelf'}" in out
    finally:
        (place / ".env").unlink()


def test_topics_are_learned_and_judged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(topics, "learned", lambda tell: questions.topics())
    monkeypatch.setattr(Topics, "save", lambda self: kept.append(self))
    code, out, _ = run("train-topics", "--json")
    found = json.loads(out)
    assert code == 0 and len(kept) == 1 and Path(found["file"]).is_file()
    assert set(found["topics"]) == set(questions.KINDS) and found["topics"]["place"]["right"] > 0.9


def test_a_list_in_pages_is_read_to_its_end() -> None:
    pages: dict[str | None, tuple[list[int], str | None]] = {None: ([5, 4], "4"), "4": ([3], "3"), "3": ([], None)}
    assert every(pages.__getitem__) == [5, 4, 3]


def test_findings_are_labelled(run: Run, place: Path, enrolled: dict[str, Any]) -> None:
    _, out, _ = run("inspect", "disc", place / "test" / "52-stain.png", "--json")
    inspection = json.loads(out)["items"][0]["inspection"]["id"]
    assert run("product", "exemplars", "disc")[1] == "disc: no finding is labelled.\n"
    code, out, err = run("product", "exemplars", "disc", "--add", inspection, "--label", "stain", "--json")
    assert code == 0, err
    (item,) = json.loads(out)["items"]
    assert (item["label"], item["finding"], item["pool"]) == ("stain", "f1", "exemplar")
    code, _, err = run("product", "exemplars", "disc", "--add", inspection, "--label", "“no”")
    assert code == 1 and "label" in err
    assert run("product", "exemplars", "disc", "--remove", item["id"])[0] == 0
    assert run("product", "exemplars", "disc", "--remove", item["id"])[0] == 1


def test_reinspect_reports_flips(run: Run, place: Path, enrolled: dict[str, Any]) -> None:
    run("inspect", "disc", place / "test", "--lot", "again")
    code, out, err = run("enroll", "disc", "--normal", place / "normal", "--expert", "padim", "--backbone", LITE, "--json")
    assert code == 0, err
    number = json.loads(out)["number"]
    assert number == 2 and not json.loads(out)["promoted"]
    code, out, err = run("reinspect", "disc", "--recipe", number, "--lot", "again", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["job"]["state"] == "done" and report["job"]["done"] == 3
    assert sum(n for row in report["flips"].values() for n in row.values()) == 3
    code, out, _ = run("jobs", "list", "--json")
    assert [job["type"] for job in json.loads(out)][:2] == ["reinspect", "enroll"]
    job = json.loads(out)[0]["id"]
    assert run("jobs", "watch", job)[0] == 0
    code, _, err = run("jobs", "cancel", job)
    assert code == 1 and "over" in err
    code, _, err = run("reinspect", "disc", "--recipe", "1", "--lot", "no such lot")
    assert code == 1 and "No inspection on record" in err


def test_recipes_promote_roll_back_and_travel(run: Run, place: Path, enrolled: dict[str, Any]) -> None:
    run("enroll", "disc", "--normal", place / "normal", "--expert", "padim", "--backbone", LITE)
    newest = json.loads(run("recipe", "list", "disc", "--json")[1])[0]["number"]
    assert run("recipe", "promote", "disc", newest)[0] == 0
    code, out, _ = run("recipe", "rollback", "disc", "--json")
    assert code == 0 and json.loads(out)["promoted"] == 1
    assert run("recipe", "export", "disc", "1", place / "disc.kensor")[0] == 0
    code, out, err = run("recipe", "import", "copy", place / "disc.kensor", "--json")
    assert code == 0, err
    assert json.loads(out)["sha256"] == enrolled["sha256"]
    assert run("recipe", "promote", "copy", "1")[0] == 0
    code, out, _ = run("inspect", "copy", place / "test" / "51-missing.png", "--json")
    assert code == 0 and json.loads(out)["items"][0]["inspection"]["recipe"]["sha256"] == enrolled["sha256"]


def test_keys_are_shown_once(run: Run) -> None:
    code, out, _ = run("keys", "create", "camera 1", "--role", "line", "--json")
    made = json.loads(out)
    assert code == 0 and made["key"].startswith("kensor_")
    code, out, _ = run("keys", "list", "--json")
    assert made["key"] not in out and [k["name"] for k in json.loads(out)] == ["camera 1"]
    assert run("keys", "revoke", made["id"])[0] == 0
    assert json.loads(run("keys", "list", "--json")[1])[0]["revoked_at"]
    code, _, err = run("keys", "create", "x", "--role", "king")
    assert code == 1 and "no role `king`" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["inspect", "nobody", "test"], 1, "no product `nobody`"),
        (["inspect", "disc", "missing.png"], 1, "no file missing.png"),
        (["inspect", "disc"], 2, "Missing argument"),
        (["recipe", "show", "disc", "99"], 1, "no recipe 99"),
        (["enroll", "Disc!", "--normal", "normal"], 1, "name"),
        (["enroll", "disc", "--normal", "nowhere"], 2, "does not exist"),
        (["enroll", "disc", "--normal", "normal", "--expert", "wizard"], 1, "expert"),
        (["jobs", "list", "--state", "finished"], 2, "--state takes queued"),
        (["product", "exemplars", "disc", "--label", "crack"], 2, "go with --add"),
        (["product", "images", "disc", "--remove", "no.png"], 1, "no picture named no.png"),
        (["jobs", "show", "01900000-0000-7000-8000-000000000000"], 1, "no job"),
        (["weights", "pull", "gpt-9"], 1, "gpt-9"),
        (["ask", "Is it good?"], 2, "--inspection"),
        (["ask", "Is it good?", "--inspection", "01900000-0000-7000-8000-000000000000"], 1, "no inspection"),
        (["demo", "normal", "--out", "demo"], 1, "train/good"),
        (["demo", "--parts", "cakes"], 1, "cakes"),
        (["data", "episodes", "made", "--jobs", "2", "--job", "2"], 1, "no job 2"),
        (["data", "episodes", "made", "--normals", "data"], 1, "3 or more"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_refusals_say_one_line_and_exit(run: Run, enrolled: dict[str, Any], words: list[str], code: int, says: str) -> None:
    got, out, err = run(*words)
    assert got == code, err
    assert says in err and "Traceback" not in err
    if code == 1:
        assert out == "" and len(err.strip().splitlines()) == 1
        _, document, _ = run(*words, "--json")
        assert set(json.loads(document)) == {"code", "message", "details"}


def _forbidden(path: Path) -> bool:
    raise PermissionError(13, "Permission denied", str(path))


def test_doctor_names_the_way_out(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, _ = run("doctor", "--json")
    assert code == 0 and {c["name"] for c in json.loads(out)} >= {"python", "memory", "database", "port", "data folder"}
    monkeypatch.setenv("KENSOR_HOME", str(tmp_path))
    code, out, _ = run("doctor")
    assert code == 0 and "kensor weights pull efficientnet_lite0" in out
    monkeypatch.setenv("KENSOR_DEVICE", "cuda:97")
    code, out, err = run("doctor")
    assert code == 1 and "unset KENSOR_DEVICE" in out and "device" in err
    monkeypatch.delenv("KENSOR_DEVICE")
    monkeypatch.setenv("KENSOR_HOST", "0.0.0.0")
    monkeypatch.setenv("KENSOR_DATA", str(tmp_path / "record"))
    assert "no key while serving" in run("doctor")[1]
    assert run("keys", "create", "first", "--role", "admin")[0] == 0
    assert "the database holds a key" in run("doctor")[1]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", _forbidden)
        code, out, _ = run("doctor")
    assert code == 1 and "Give this user the folder" in out
    monkeypatch.setenv("KENSOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    code, out, err = run("doctor")
    assert code == 1 and "KENSOR_DATABASE_URL" in out and "database" in err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KENSOR_DEVICE", "gpu", "KENSOR_DEVICE: String should match pattern"),
        ("KENSOR_PORT", "abc", "KENSOR_PORT: Input should be a valid integer"),
        ("KENSOR_ADMIN_KEY", "hunter2", "KENSOR_ADMIN_KEY: Value should have at least 16"),
        ("KENSOR_DATABASE_URL", "nonsense", "KENSOR_DATABASE_URL is not the address of a database"),
        ("KENSOR_DATABASE_URL", "postgresql://u:hunter2@host:port/x", "KENSOR_DATABASE_URL is not the address of a database"),
        ("KENSOR_DATABASE_URL", "mysql://u:hunter2@host/x", "neither PostgreSQL"),
        ("KENSOR_STORE_URL", "foo://x", "KENSOR_STORE_URL cannot be used"),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    code, out, err = run("jobs", "list")
    assert (code, out) == (1, "") and says in err
    assert "hunter2" not in err and len(err.strip().splitlines()) == 1


def test_db_upgrade_is_idempotent(run: Run) -> None:
    assert run("db", "upgrade")[0] == 0
    code, out, _ = run("db", "upgrade", "--json")
    assert code == 0 and json.loads(out)["before"] == json.loads(out)["now"]


def test_a_newer_database_is_left_alone(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KENSOR_DATA", str(place / "newer"))
    assert run("db", "upgrade")[0] == 0
    with closing(sqlite3.connect(place / "newer" / "kensor.sqlite")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    for words in (("db", "upgrade"), ("jobs", "list")):
        code, _, err = run(*words)
        assert code == 1 and "A newer Kensor made it so" in err
    code, out, _ = run("doctor")
    assert code == 1 and "A newer Kensor made it so" in out
    monkeypatch.setenv("KENSOR_DATABASE_URL", "nonsense")
    code, _, err = run("db", "upgrade")
    assert code == 1 and "not the address of a database" in err


def test_good_parts_are_added_and_the_diff_is_told(run: Run, place: Path, enrolled: dict[str, Any]) -> None:
    (place / "more").mkdir(exist_ok=True)
    for index in range(70, 73):
        cv2.imwrite(str(place / "more" / f"{index}.png"), cv2.cvtColor(drawn(4, index)[0], cv2.COLOR_RGB2BGR))
    run("inspect", "disc", place / "test", "--lot", "diff")
    code, out, err = run("enroll", "disc", "--normal", place / "more", "--extend", "1", "--diff-last", "3", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["options"]["extension"]["parents"] == [enrolled["sha256"]] and made["calibration"]["n"] == 13
    assert made["diff"]["compared"] == 3 and made["diff"]["new_escapes"] == 0
    code, out, _ = run("recipe", "show", "disc", made["number"])
    assert code == 0 and f"extends    {enrolled['sha256']} by 3 pictures" in out
    code, out, err = run("recipe", "diff", "disc", made["number"], "--against", "1", "--last", "2")
    assert code == 0, err
    assert "judged again 2 of the newest 2 " in out and "good parts 0 would pass now" in out
    assert json.loads(run("recipe", "diff", "disc", made["number"], "--json")[1])["compared"] >= 3
    code, _, err = run("enroll", "disc", "--normal", place / "more", "--extend", "1")
    assert code == 0, err  # the same pictures to the same parent: the same recipe under the next number
    code, _, err = run("enroll", "disc", "--normal", place / "more", "--extend", made["number"])
    assert code == 1 and "already" in err
    code, _, err = run("enroll", "disc", "--reviewed-good", "--extend", "present")
    assert code == 1 and "reviewed as good" in err
    assert (
        run("enroll", "disc", "--extend", "1")[0] == 2
        and run("enroll", "disc", "--normal", place / "more", "--extend", "x")[0] == 2
    )


def test_auto_shows_what_it_compared(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = (choice.Way("fused", 64, "max", 0.0), choice.Way(LITE, 64, "max", inf), choice.Way("fused", 128, "top", 0.02))
    monkeypatch.setattr(choice, "WAYS", small)
    code, out, err = run("enroll", "auto", "--normal", place / "normal")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines() if line.startswith(("chosen ", "tried "))]
    assert [row[1:3] for row in rows] == [[f"{way.backbone},", str(way.image_size)] for way in small]
    assert sum(row[0] == "chosen" for row in rows) == 1 and out.count("ms a picture") == 3
    code, out, _ = run("recipe", "show", "auto", "1", "--json")
    assert [row["chosen"] for row in json.loads(out)["choice"]["candidates"]] == [row[0] == "chosen" for row in rows]
    assert run("enroll", "auto", "--normal", place / "normal", "--score-rule", "median")[0] == 1


def test_a_product_without_normal_pictures_can_be_looked_at(run: Run, place: Path) -> None:
    code, _, err = run("enroll", "fresh", "--expert", "patchcore")
    assert code == 2 and "--normal" in err
    code, out, err = run("enroll", "fresh", "--expert", "zeroshot", "--promote", "--force", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["promoted"], made["normals"], made["backbone"]) == (True, [], "dinov2_vits14")
    assert any("no normal picture was looked at" in warning for warning in made["warnings"])
    code, out, err = run("inspect", "fresh", place / "test" / "51-missing.png", "--json")
    assert code == 0, err
    seen = json.loads(out)["items"][0]["inspection"]
    assert (seen["verdict"], seen["reasons"]) == ("review", ["uncalibrated", "zero_shot"])
