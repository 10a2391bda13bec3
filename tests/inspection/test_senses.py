"""What a bare yes or no would grant, and questions in disguise or in a language that is not understood."""

from __future__ import annotations

import pytest

from inspection.questions import understand


@pytest.mark.parametrize(
    ("text", "sense"),
    [
        ("Is there a defect, yes or no?", 1),
        ("Is it bad or not?", 1),
        ("And is it faulty?", 1),
        ("Is nothing wrong with it?", -1),
        ("Is the part lacking any defect?", -1),
        ("Is there a defect", 1),
        ("The part is good.", 0),  # told, not asked
        ("Is it not defective?", 0),
        ("Is it not free of faults?", 0),
        ("It can't be defective, can it?", 0),
        ("Is it anything but good?", 0),
        ("Is it impossible that this is defective?", 0),
        ("Is it good? Is it bad?", 0),
        ("Is the part good and the other piece too?", 0),
        ("Are there between 2 and 7 defects?", 0),
        ("Is there a large defect?", 0),  # yes would grant its size
        ("Is it less than perfect?", 0),
        ("Which tooth is broken?", 0),
        ("Is the left side damaged?", 0),  # yes would grant the place
        ("Is anything wrong on the right?", 0),
        ("Is everything all right?", -1),
        ("What is the probability that it is good?", 0),
    ],
)
def test_a_yes_or_no_leads_only_where_it_grants_presence_alone(text: str, sense: int) -> None:
    assert understand(text).sense == sense


@pytest.mark.parametrize(
    "text", ["¿Dónde está el defecto?", "Où est le défaut ?", "Где дефект?", "缺陷在哪里？", "결함은 어디에 있습니까?"]
)
def test_languages_that_are_not_understood_are_not_guessed_at(text: str) -> None:
    question = understand(text)
    assert (question.sense, question.language) == (0, "en") and question.kind in ("description", "unanswerable")


@pytest.mark.parametrize("text", ["Ｉｓ　ｉｔ　ｇｏｏｄ？", "ℑ𝔰 𝔦𝔱 𝔤𝔬𝔬𝔡?", "ⓘⓢ ⓘⓣ ⓞⓚ?"])
def test_letters_in_disguise_are_read(text: str) -> None:
    assert (understand(text).kind, understand(text).sense) == ("yes_no", -1)


@pytest.mark.parametrize("text", ["Is the face resting on the bench damaged?", "Is the surface facing away from us clean?"])
def test_a_side_that_the_picture_does_not_show(text: str) -> None:
    assert understand(text).kind == "unanswerable"
