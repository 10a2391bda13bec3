"""Recipes are frozen: what was changed, swapped or smuggled in is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from inspection.evidence import RecipeRefused
from inspection.recipe import DOCUMENT, Recipe, arrays, digest, export_file, import_file, load, save

Made = tuple[Path, Recipe]


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


def edited(folder: Path, **changes: object) -> None:
    values = json.loads((folder / DOCUMENT).read_bytes())
    (folder / DOCUMENT).write_text(json.dumps({**values, **changes}))


def test_the_document_is_canonical_and_the_digest_skips_the_date(made: Made) -> None:
    text = (made[0] / DOCUMENT).read_bytes()
    values = json.loads(text)
    assert text == json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert digest(text) == made[1].sha256 == digest(json.dumps({**values, "created_at": "later"}).encode())
    assert digest(json.dumps({**values, "product": "other"}).encode()) != made[1].sha256


@pytest.mark.parametrize("name", ["memory_bank.safetensors", "golden/normal0.png", "golden/synthetic.png"])
def test_a_changed_or_missing_file_is_refused(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(RecipeRefused, match=name):
        load(copy)
    (copy / name).write_bytes(bytes(data) + b"more")
    with pytest.raises(RecipeRefused, match=name):
        load(copy)
    (copy / name).unlink()
    with pytest.raises(RecipeRefused, match=f"no {name}"):
        load(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "kensor-recipe/9"},
        {"files": {"../../etc/passwd": {"sha256": "0", "bytes": 1}}},
        {"files": {}},
        {"expert": "oracle"},
        {"calibration": None},
        {"extra": 1},
        {"golden": [], "files": {}},
        {"image_size": "224"},
        {"image_size": None},
        {"image_size": 100_000},
        {"heatmap_max": "1"},
        {"gate": dict.fromkeys(("width_min", "width_max", "height_min", "height_max"), 1)},
        {"options": []},
    ],
)
def test_a_document_that_is_no_recipe_is_refused(copy: Path, changes: dict[str, object]) -> None:
    edited(copy, **changes)
    with pytest.raises(RecipeRefused):
        load(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": "kensor-recipe/1"}', "\xff", "[" * 100_000])
def test_damaged_json_is_refused(copy: Path, text: str) -> None:
    (copy / DOCUMENT).write_text(text, encoding="latin-1")
    with pytest.raises(RecipeRefused):
        load(copy)


def test_a_folder_is_never_overwritten(made: Made) -> None:
    with pytest.raises(RecipeRefused, match="exists"):
        save(made[0], made[1], {})
    with pytest.raises(RecipeRefused, match=DOCUMENT):
        load(made[0] / "nowhere")


def test_export_and_import_round_trip(made: Made, tmp_path: Path) -> None:
    one, two = export_file(made[0], tmp_path / "a" / "cap.zip"), export_file(made[0], tmp_path / "b.zip")
    assert one.read_bytes() == two.read_bytes()
    back = import_file(one, tmp_path / "back")
    assert back == made[1] and load(tmp_path / "back") == made[1]
    assert arrays(tmp_path / "back", back)["memory_bank"].shape == (2000, 152)
    with pytest.raises(RecipeRefused, match="exists"):
        import_file(one, tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b.zip", "back"]


@pytest.mark.parametrize("what", ["slip", "extra", "less", "swapped", "bomb", "deflated", "text", "cut"])
def test_a_hostile_file_is_refused_and_leaves_nothing(made: Made, tmp_path: Path, what: str) -> None:
    path, members = tmp_path / "r.zip", {DOCUMENT: (made[0] / DOCUMENT).read_bytes()}
    members |= {name: (made[0] / name).read_bytes() for name in made[1].files}
    if what == "slip":
        members["../evil.txt"] = b"out"
    if what == "extra":
        members["golden/more.png"] = b"x"
    if what == "less":
        del members["golden/normal0.png"]
    if what == "swapped":
        members["golden/normal0.png"] = members["golden/synthetic.png"]
    if what == "bomb":
        members["golden/normal0.png"] = bytes(200_000_000)
    if what == "deflated":  # its document states the size truly: 1 MB that would unpack to 200
        bank, values = bytes(200_000_000), json.loads(members[DOCUMENT])
        values["files"]["memory_bank.safetensors"] = {"sha256": hashlib.sha256(bank).hexdigest(), "bytes": len(bank)}
        members |= {"memory_bank.safetensors": bank, DOCUMENT: json.dumps(values).encode()}
    stored = zipfile.ZIP_DEFLATED if what == "deflated" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", stored) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    if what == "text":
        path.write_text("not a zip")
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(RecipeRefused):
        import_file(path, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["r.zip"]


def test_a_value_of_another_type_is_refused_within(copy: Path) -> None:
    values = json.loads((copy / DOCUMENT).read_bytes())
    for part, name, wrong in (("gate", "aspect_min", "1"), ("calibration", "thresholds", {"review": "a", "reject": "b"})):
        edited(copy, **{part: {**values[part], name: wrong}})
        with pytest.raises(RecipeRefused, match=r"recipe\.json cannot be read"):
            load(copy)


def test_a_damaged_directory_of_a_file_is_refused(made: Made, tmp_path: Path) -> None:
    whole = export_file(made[0], tmp_path / "r.zip").read_bytes()
    first = whole.index(b"PK\1\2")
    for at in range(first, first + 46):  # every field of the first entry: offsets before the file, sizes, flags
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (tmp_path / "r.zip").write_bytes(damaged)
        try:
            import_file(tmp_path / "r.zip", tmp_path / f"new{at}")  # a date or an attribute does no harm
        except RecipeRefused:
            assert not (tmp_path / f"new{at}").exists()
