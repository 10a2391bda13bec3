"""An expert for the moment: its evidence with picture and normal ones, and nothing for normal where there was none."""

from __future__ import annotations

import numpy as np
from drawn_parts import part

from inspection.image import decode
from inspection.options import EnrolOptions
from inspection.witness import witness


def test_a_witness_shows_part_and_normals() -> None:
    normals = [part(n) for n in range(4)]
    expert = witness(normals, EnrolOptions(backbone="efficientnet_lite0", coreset=200))
    e = expert.says(normals[0])
    assert e.image is not None and np.array_equal(e.image, decode(normals[0]).pixels) and e.map is not None
    assert e.references and all(one.shape[2] == 3 for one in e.references) and e.thresholds.reject is not None


def test_without_normal_pictures_none_is_shown() -> None:
    expert = witness([], EnrolOptions(expert="zeroshot", backbone="dinov2_vits14"))
    assert expert.references == () and expert.says(part(0)).references == ()
