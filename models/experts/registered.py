"""Registered PaDiM: each picture is laid on one template before the backbone, its pose goes with the features, its map back."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from models import backbones
from models.experts.base import Extractor, FeaturesRefused, Floats, RawScore
from models.experts.cells import grey
from models.experts.registration import FINE, Grey, Pose, descriptor, fine, over_turns, scaled
from models.experts.view import Rule

FEWEST, MOST = 2, 8
"""Normal pictures that are laid on a template; more of them show the spread of places themselves (docs/experiments.md)."""
ALIKE = 0.955
"""Least likeness to the template of every normal: under it, AUROC fell on one development product in two."""
KNOWN = 0.8
"""Least likeness at which a picture is laid on the template: parts laid rightly have .85 and more, wrongly .6 and less."""
NOT_REGISTERED = "not_registered"
POSE = 7
"""Columns beside the features: the warp of `registration.Pose`, row by row, and the likeness."""


def template_of(pictures: Sequence[Grey]) -> tuple[Grey, float] | None:
    """The most usual of the normal pictures, uint8 `[FINE, FINE]`, and the least likeness of any to it.

    `None` where registration would not pay: too few or many pictures, or one under `ALIKE`.
    """
    if not FEWEST <= len(pictures) <= MOST:
        return None
    described = np.stack([descriptor(picture) for picture in pictures])
    medoid = pictures[int((described @ described.T).sum(1).argmax())]
    template = np.asarray(cv2.resize(medoid, (FINE, FINE), interpolation=cv2.INTER_AREA), np.uint8)
    least = min(over_turns(fine(picture), fine(template)).likeness for picture in pictures)
    return (template, least) if least >= ALIKE else None


class Registered:
    """A backbone that sees every picture where the template lies: `[B, P, D + POSE]`, the pose with each patch.

    A picture less like the template than `KNOWN` is seen as it is.
    """

    def __init__(self, whole: Extractor, backbone: str, template: np.ndarray) -> None:
        """Raises ValueError for a template that `template_of` did not make."""
        if template.shape != (FINE, FINE) or template.dtype != np.uint8:
            raise ValueError(f"a template is uint8 [{FINE}, {FINE}], not {template.dtype} {list(template.shape)}")
        self.grid, self.nbytes = whole.grid, whole.nbytes + 4 * FINE**2
        self._whole, self._spec, self._template = whole, backbones.spec(backbone), fine(template)

    def features(self, images: Floats) -> Floats:
        """`[B, 3, size, size]`, normalised for the backbone → `[B, P, D + POSE]`."""
        greys = (grey(images, self._spec) + 0.5).astype(np.uint8)
        poses = [over_turns(fine(picture), self._template) for picture in greys]
        laid = np.stack([_laid(image, pose) for image, pose in zip(images, poses, strict=True)])
        deep = self._whole.features(laid)
        told = np.array([[*pose.warp.ravel(), pose.likeness] for pose in poses], np.float32)
        return np.concatenate([deep, np.repeat(told[:, None], deep.shape[1], 1)], 2)


def laid_back(raw: RawScore, features: Floats, rule: Rule) -> RawScore:
    """The score of a registered picture, its map brought to the picture's own frame (0 where the template does not reach).

    `features`: its `[P, D + POSE]`. With the rule `max` the score is that map's peak: what only the template's frame shows is
    drawn out from the border, and no part. `patches` stay in the template's frame. Reason `not_registered` for a picture that
    was seen as it is. Raises FeaturesRefused for features without a pose.
    """
    told = features[0, -POSE:].astype(np.float64)
    if (features[:, -POSE:] != features[0, -POSE:]).any():
        raise FeaturesRefused("features without the pose of a registered picture")
    if told[-1] < KNOWN:
        return raw._replace(reasons=(*raw.reasons, NOT_REGISTERED))
    size = len(raw.map)
    back = cv2.warpAffine(
        raw.map, scaled(told[:-1].reshape(2, 3), size), (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    score = float(back.max()) if rule == "max" else raw.score
    return raw._replace(score=score, map=np.asarray(back, np.float32))


def _laid(image: Floats, pose: Pose) -> Floats:
    """A picture `[3, S, S]` as it would look where the template lies, its border drawn out."""
    if pose.likeness < KNOWN:
        return image
    size = image.shape[1]
    moved = cv2.warpAffine(
        np.ascontiguousarray(image.transpose(1, 2, 0)),
        scaled(pose.warp, size),
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.ascontiguousarray(moved.transpose(2, 0, 1), np.float32)
