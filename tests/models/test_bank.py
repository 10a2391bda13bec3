"""The nearest row of a memory bank against its plain definition, and the larger bank's search against both."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import bank as banks
from models.bank import Bank

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=st.integers(1, 40), width=st.integers(1, 40), offset=st.sampled_from([0.0, 100.0]))
def test_nearest_is_the_exact_minimum(seed: int, rows: int, width: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    bank = (rng.normal(size=(rows, width)) + offset).astype(np.float32)
    queries = np.concatenate([(rng.normal(size=(7, width)) + offset).astype(np.float32), bank[:3]])
    distances, index = Bank(bank).nearest(queries)
    every = np.linalg.norm(queries[:, None].astype(np.float64) - bank, axis=2)
    np.testing.assert_allclose(distances, every.min(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(every[np.arange(len(queries)), index], every.min(1), rtol=1e-5, atol=1e-5)
    assert (distances[7:] == 0).all()  # a row of the bank is at distance zero, not at rounding noise


def test_nearest_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(9001, 8)).astype(np.float32), rng.normal(size=(1100, 8)).astype(np.float32)
    distances, index = Bank(bank).nearest(queries)
    every = np.linalg.norm(queries[::50, None].astype(np.float64) - bank, axis=2)
    assert (index[::50] == every.argmin(1)).all()
    np.testing.assert_allclose(distances[::50], every.min(1), rtol=1e-5)
    monkeypatch.setattr("models.bank.BLOCK", 1 << 13)
    monkeypatch.setattr("models.bank.ROWS", 700)
    again, same = Bank(bank).nearest(queries)
    assert (same == index).all() and (again == distances).all()


def test_nearest_shows_nan_and_refuses_an_empty_bank() -> None:
    query = np.array([[0.0, np.nan], [0.0, 1.0]], np.float32)
    distances, _ = Bank(np.eye(2, dtype=np.float32)).nearest(query)
    assert np.isnan(distances[0]) and distances[1] == 0
    with pytest.raises(ValueError, match="empty"):
        Bank(np.zeros((0, 2), np.float32))


def listed(rows: np.ndarray) -> Bank:
    """A small bank with lists, as large ones have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banks, "EXACT_ROWS", 30)
        return Bank(rows)


def drawn(rng: np.random.Generator, kind: str, rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A bank and queries of one kind."""
    bank, queries = rng.normal(size=(rows, width)), rng.normal(size=(60, width))
    if kind == "grid":  # very many equal distances
        bank, queries = np.round(bank), np.round(queries)
    elif kind == "one row":
        bank[:] = bank[0]
    elif kind == "outliers":
        bank[: rows // 9] *= 1e3
        queries[:7] *= 1e3
    elif kind == "far from zero":
        bank, queries = bank + 300, queries + 300
    elif kind == "rows":
        queries = bank[rng.integers(rows, size=60)]
    return bank.astype(np.float32), queries.astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    seed=seeds,
    kind=st.sampled_from(["normal", "grid", "one row", "outliers", "far from zero", "rows"]),
    rows=st.integers(31, 400),
    width=st.integers(1, 20),
    sure=st.integers(1, 70),
)
def test_search_is_sure_of_the_largest(seed: int, kind: str, rows: int, width: int, sure: int) -> None:
    bank, queries = drawn(np.random.default_rng(seed), kind, rows, width)
    searched = listed(bank)
    exact, found = searched.nearest(queries)[0], searched.search(queries, sure)
    tiny = 1e-5 * float(np.abs(bank - bank.mean(0)).max())  # a distance of nothing, in float32
    assert (found >= exact * (1 - 1e-6) - tiny).all()
    np.testing.assert_allclose(np.sort(found)[-sure:], np.sort(exact)[-sure:], rtol=1e-6, atol=tiny)
    assert (found == listed(bank).search(queries, sure)).all()


def test_search_of_a_large_bank_finds_nearly_all() -> None:
    rng = np.random.default_rng(0)
    middles = 4 * rng.normal(size=(40, 24))
    bank, queries = (
        (middles[rng.integers(40, size=count)] + rng.normal(size=(count, 24))).astype(np.float32) for count in (12_000, 800)
    )
    queries[:20] += 15  # defects lie far from every list
    searched = Bank(bank)
    exact, found = searched.nearest(queries)[0], searched.search(queries, 8)
    assert (found <= exact * (1 + 1e-6)).mean() >= 0.99
    assert (np.sort(found)[-8:] == np.sort(exact)[-8:]).all()
    assert searched.nbytes >= 2 * bank.nbytes


def test_search_of_a_small_bank_is_exact_everywhere() -> None:
    rng = np.random.default_rng(0)
    searched, queries = Bank(rng.normal(size=(300, 9)).astype(np.float32)), rng.normal(size=(50, 9)).astype(np.float32)
    assert (searched.search(queries) == searched.nearest(queries)[0]).all()


def test_search_shows_nan_and_is_sure_of_the_others() -> None:
    rng = np.random.default_rng(0)
    searched, queries = listed(rng.normal(size=(200, 9)).astype(np.float32)), rng.normal(size=(50, 9)).astype(np.float32)
    queries[[3, 7], 2] = np.nan
    queries[9, 1] = np.inf
    for sure in (1, 10, 99):
        found, exact = searched.search(queries, sure), searched.nearest(queries)[0]
        assert np.isnan(found[[3, 7]]).all() and found[9] == np.inf
        some = np.setdiff1d(np.arange(50), [3, 7, 9])
        assert np.isfinite(found[some]).all()
        np.testing.assert_allclose(np.sort(found[some])[::-1][: sure - 1], np.sort(exact[some])[::-1][: sure - 1], rtol=1e-6)
    queries[:] = np.nan
    assert np.isnan(searched.search(queries)).all()


def test_the_product_is_the_graph_onnx_makes() -> None:
    model = onnx.load_model_from_string(banks._GEMM)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Gemm", ["x", "y"], ["z"])
    assert [(one.name, onnx.helper.get_attribute_value(one)) for one in node.attribute] == [("transB", 1)]
