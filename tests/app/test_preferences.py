"""Votes and edits as pairs: what a person said is in, what the check or nobody said is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import BAD, PNG, Echo, good
from typer.testing import CliRunner

from app.context import Context
from app.schemas.questions import FeedbackIn
from app.services import keys, questions


class Varied(Echo):
    """Says what it was told to say."""

    says = ""

    def answer(self, *args: Any, **more: Any) -> Any:
        return replace(super().answer(*args, **more), answer=self.says, own_words=f"own {self.says}")


@pytest.fixture
def echo() -> Varied:
    return Varied()


class Asking:
    """One inspection, asked and judged."""

    def __init__(self, client: TestClient, part: str, ctx: Context, echo: Varied) -> None:
        self.client, self.ctx, self.echo = client, ctx, echo
        self.inspection = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)

    def ask(self, question: str, says: str) -> str:
        self.echo.says = says
        return str(good(self.client.post(self.inspection["links"]["questions"], json={"question": question}), 201)["id"])

    def say(self, answer: str, vote: Any, by: str, edit: str | None = None) -> None:
        with self.ctx.database.write() as session:
            questions.feedback(session, answer, FeedbackIn(vote=vote, edit=edit), by)

    def pairs(self, limit: int = 200) -> list[dict[str, Any]]:
        found, cursor = [], ""
        while cursor is not None:
            page = good(self.client.get(f"/v1/answers/preferences?limit={limit}{cursor and '&cursor=' + cursor}"))
            found += page["items"]
            cursor = page["next_cursor"]
        return found

    def short(self, limit: int = 200) -> list[tuple[str, str, str, list[str]]]:
        return [(p["source"], p["chosen"], p["rejected"], p["who"]) for p in self.pairs(limit)]


@pytest.fixture
def asking(client: TestClient, part: str, ctx: Context, echo: Varied) -> Asking:
    return Asking(client, part, ctx, echo)


def test_an_edit_is_chosen_over_the_answer(asking: Asking) -> None:
    answer = asking.ask("Where is it?", "At the right.")
    asking.say(answer, "down", "ann", " At the left. ")
    (pair,) = asking.pairs()
    assert (pair["source"], pair["prompt"], pair["chosen"], pair["rejected"]) == (
        "edit", "Where is it?", "At the left.", "At the right.",
    )  # fmt: skip
    assert (pair["who"], pair["chosen_answer"], pair["product"]) == (["ann"], None, "part")
    assert pair["inspection_id"] == asking.inspection["id"]
    assert pair["evidence"][0]["kind"] == "map_stat"
    assert pair["rejected_answer"] == {
        "id": answer, "own_words": "own At the right.", "grounding": "mended",
        "model": {"name": "echo", "sha256": "0" * 64}, "prompt_sha256": "1" * 64,
    }  # fmt: skip
    assert pair["when"].endswith("Z")


def test_votes_up_and_down_on_the_same_question_make_a_pair(asking: Asking) -> None:
    one, two = asking.ask("Where is it?", "At the left."), asking.ask("where  is it?", "At the right.")
    other = asking.ask("How big is it?", "Large.")
    asking.say(one, "up", "ann")
    assert asking.pairs() == []
    asking.say(two, "down", "bob")
    asking.say(other, "down", "bob")
    (pair,) = asking.pairs()
    assert (pair["source"], pair["chosen"], pair["rejected"], pair["who"]) == (
        "votes", "At the left.", "At the right.", ["ann", "bob"],
    )  # fmt: skip
    assert (pair["chosen_answer"]["id"], pair["rejected_answer"]["id"]) == (one, two)


def test_the_latest_word_of_each_person_counts_and_a_tie_says_nothing(asking: Asking) -> None:
    one, two = asking.ask("Where?", "Left."), asking.ask("Where?", "Right.")
    asking.say(one, "down", "ann")
    asking.say(two, "up", "ann")
    asking.say(one, "up", "ann", "Far left.")
    asking.say(two, "down", "ann")
    asking.say(one, "up", "ann", "Leftmost.")
    assert asking.short() == [("edit", "Leftmost.", "Left.", ["ann"]), ("votes", "Left.", "Right.", ["ann"])]
    asking.say(one, "down", "bob")
    assert asking.short() == [("edit", "Leftmost.", "Left.", ["ann"])]


def test_the_same_text_given_twice_is_one_side(asking: Asking) -> None:
    left, again, right = (asking.ask("Where?", says) for says in ("Left.", "Left.", "Right."))
    asking.say(left, "up", "ann")
    asking.say(again, "up", "bob")
    asking.say(right, "down", "cid")
    assert asking.short() == [("votes", "Left.", "Right.", ["ann", "bob", "cid"])]


def test_what_nobody_preferred_makes_no_pair(asking: Asking) -> None:
    one, two = asking.ask("Where?", "Left."), asking.ask("Where?", "Left.")
    asking.say(one, "up", "ann", "Left.")
    asking.say(two, "up", "ann")
    mended = asking.ask("Where?", "Right.")
    asking.say(mended, "up", "ann", "   ")
    assert asking.pairs() == []


def test_pages_hold_each_pair_once(asking: Asking, client: TestClient) -> None:
    for n in range(4):
        one, two = asking.ask(f"Where {n}?", f"Left {n}."), asking.ask(f"Where {n}?", f"Right {n}.")
        asking.say(one, "up", "ann", f"Leftmost {n}." if n % 2 else None)
        asking.say(two, "down", "ann")
    whole = asking.short()
    assert len(whole) == 6
    for limit in (1, 2, 3, 5):
        assert asking.short(limit) == whole


def test_the_command_writes_a_line_for_each(asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.cli import app

    asking.say(asking.ask("Wo?", "Rechts."), "down", "Jürgen", "Links.")
    settings = asking.ctx.settings
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "pairs.jsonl"
    assert CliRunner().invoke(app, ["answers", "pairs", "--out", str(out)], catch_exceptions=False).exit_code == 0
    (line,) = out.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["who"] == ["Jürgen"]
    shown = CliRunner().invoke(app, ["answers", "pairs"], catch_exceptions=False).stdout
    assert json.loads(shown) == json.loads(line)


def test_only_an_engineer_may_export(client: TestClient, ctx: Context) -> None:
    with ctx.database.write() as session:
        held = {role: keys.create(session, role, role, "test")[1] for role in ("operator", "engineer")}
    for role, status in (("operator", 403), ("engineer", 200)):
        asked = client.get("/v1/answers/preferences", headers={"Authorization": f"Bearer {held[role]}"})
        assert asked.status_code == status
