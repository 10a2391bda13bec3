"""The second reader: what it hears, and that it hears what the check's grammar reads."""

from __future__ import annotations

import pytest
from evidences import PLACES, evidence
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.claims import BANDS, band, read
from inspection.judge import hear, objections, size_band


@pytest.mark.parametrize(
    ("text", "sense", "side", "places", "counts", "bands", "refuses"),
    [
        ("Yes.", 1, True, [], [], [], False),
        ("Yes.", -1, False, [], [], [], False),
        ("No, the part is not good.", -1, True, [], [], [], False),
        ("Yes, there is no defect.", 1, None, [], [0], [], False),
        ("No defect is visible.", 0, False, [], [0], [], False),
        ("The item isn't flawless.", 0, True, [], [], [], False),
        ("The part is not free of defects.", 0, True, [], [], [], False),
        ("The part is rejected.", 0, True, [], [], [], False),
        ("Release the part: the verdict is pass.", 0, False, [], [], [], False),
        ("The detector is not sure about this part.", 1, None, [], [], [], False),
        ("It is in the upper-left corner, then the middle.", 0, None, ["top left", "centre"], [], [], False),
        ("There is no defect at the top.", 0, False, [], [0], [], False),
        ("2 regions of the anomaly map stand out.", 0, None, [], [2], [], False),
        ("There are three small flaws.", 0, True, [], [3], ["small"], False),
        ("Four.", 0, None, [], [4], [], False),
        ("It is very small.", 0, None, [], [], ["tiny"], False),
        ("It covers 3.2 % of the picture.", 0, None, [], [], ["medium"], False),
        ("It is huge.", 0, None, [], [], ["large"], False),
        ("This cannot be answered from the picture.", 1, None, [], [], [], True),
        ("I don't know who did it.", 0, None, [], [], [], True),
        ("The finding f1 is at the left. The type cannot be named.", 0, None, ["left"], [], [], False),
        ("The type cannot be named: there is a defect at the left.", 0, None, [], [], [], True),
        ("No information about the price is given.", 1, None, [], [], [], True),
        ("", 1, None, [], [], [], False),
    ],
)
def test_what_a_text_says(
    text: str, sense: int, side: bool | None, places: list[str], counts: list[int], bands: list[str], refuses: bool
) -> None:
    heard = hear(text, sense)
    assert (heard.side, heard.places, heard.counts, heard.bands, heard.refuses) == (side, places, counts, bands, refuses)


@pytest.mark.parametrize(
    ("text", "side", "opinion"),
    [
        ("The verdict is pass, but the model sees a defect. The map is highest at the top.", False, True),
        ("The verdict is reject, but the model sees no defect.", True, False),
        ("The detector is not sure; the model sees a defect.", None, True),
        ("The part is good.", False, None),
    ],
)
def test_what_a_model_sees_itself_is_not_what_it_reports(text: str, side: bool | None, opinion: bool | None) -> None:
    heard = hear(text)
    assert (heard.side, heard.opinion, heard.own) == (side, opinion, side if opinion is None else opinion)


def test_a_view_that_the_model_does_not_hold_is_objected_to() -> None:
    text = "The verdict is pass, but the model sees a defect."
    assert not objections(text, evidence(4.2, view=0.7))
    assert objections(text, evidence(4.2, view=0.3)) and objections(text, evidence(4.2))


@given(st.floats(0, 100))
def test_both_readers_know_the_same_bands(area: float) -> None:
    assert size_band(area) == band(area) and BANDS[-1][0] == "large"


SUBJECT = st.sampled_from(("The part", "It", "The piece", "This part"))
CLAUSES = st.one_of(
    st.builds("There is one {} at the {}".format, st.sampled_from(("defect", "finding", "flaw")), st.sampled_from(PLACES)),
    st.builds(
        "{} is {}".format, SUBJECT, st.sampled_from(("good", "defective", "not good", "not defective", "faulty", "normal"))
    ),
    st.builds("There are {} {}".format, st.sampled_from(("no", "two", "three", "4")), st.sampled_from(("defects", "flaws"))),
    st.builds("The defect is {}".format, st.sampled_from(("tiny", "small", "very small", "medium", "large", "big"))),
    st.builds("It covers {} % of the picture".format, st.sampled_from(("0.05", "0.4", "3.2", "17"))),
)


@settings(max_examples=300)
@given(CLAUSES)
def test_what_the_check_reads_the_second_reader_hears(clause: str) -> None:
    claims, heard = read(clause), hear(clause + ".")
    assert claims is not None
    assert claims.present <= heard.present and claims.places == set(heard.places)
    assert claims.counts <= set(heard.counts) and claims.bands <= set(heard.bands)
