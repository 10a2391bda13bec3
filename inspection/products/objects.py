"""Drawn objects on a ground: machined, moulded, printed, pressed and electric parts."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from inspection.drawn import Grid, inside
from inspection.products.canvas import Rng, at, ellipse, field, folded, laid, long, rotated, rough, sampled, sheet, tint, write

_LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ0123456789"


def _text(product: Rng, length: int) -> str:
    return "".join(product.choice(list(_LETTERS), length))


def label(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A printed label: lines of text, a bar code, a logo; the print lies a little off on every part."""
    paper, ink = tint(product, 0.65, 0.95, 0.1), tint(product, 0.05, 0.35, 0.2)
    canvas = sheet(paper)
    colour = tuple(ink.tolist())
    for row in np.arange(-0.75, 0.35, product.uniform(0.14, 0.3)):
        scale = product.uniform(0.4, 1.1)
        text = _text(product, int(product.integers(4, 14)))
        write(canvas, text, (-0.85, row), scale, ink, int(product.integers(0, 5)), 1 + (scale > 0.7))
    here = -0.8
    while here < product.uniform(-0.2, 0.5):
        wide = product.uniform(0.01, 0.04)
        cv2.rectangle(canvas, at(here, 0.45), at(here + wide, 0.8), colour, -1)
        here += wide + product.uniform(0.015, 0.04)
    cv2.circle(canvas, at(0.65, 0.6), long(0.2), tuple(tint(product, chroma=0.4).tolist()), -1, cv2.LINE_AA)
    shift = part.normal(0, 0.005 + 0.02 * vary, 2)
    print_ = sampled(canvas, x - np.float32(shift[0]), y - np.float32(shift[1]))
    return laid(tint(product, 0.1, 0.9), print_, inside(ellipse(x, y, 12) - 0.92))


def gasket(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A flat seal: a ring of odd outline with bolt holes."""
    ground, rubber = tint(product, 0.5, 0.95), tint(product, 0.05, 0.45)
    power, lobes, holes = product.uniform(1.6, 8), int(product.integers(2, 6)), int(product.integers(3, 9))
    angle, radius = np.arctan2(y, x), ellipse(x, y, power)
    outer = 0.82 + 0.06 * np.cos(lobes * angle) * product.choice([0, 1]) + 0.006 * vary * part.normal() * np.cos(2 * angle)
    ring = np.maximum(radius - outer, outer - product.uniform(0.2, 0.4) - radius)
    spoke = folded(angle, holes)
    plain = np.hypot(x, y)
    hole = np.hypot(plain * np.cos(spoke) - product.uniform(0.65, 0.72), plain * np.sin(spoke)) - product.uniform(0.03, 0.07)
    body = inside(ring) * (1 - inside(hole))
    return laid(ground, rubber * (1 + 0.08 * field(x, y, part, 0.03))[..., None], body)


def gear(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A gear wheel: teeth, a hub with a key way, spokes or a web."""
    ground, metal, teeth = tint(product, 0.05, 0.95), tint(product, 0.35, 0.75, 0.08), int(product.integers(12, 40))
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    tooth = np.clip(2.5 * np.sin(teeth * angle), -1, 1) * 0.05
    body = inside(radius - 0.8 - tooth, 60)
    shade = 0.04 * np.sin(product.uniform(40, 90) * radius) + 0.05 * np.cos(2 * angle + part.uniform(0, 6.3) * vary)
    face = metal * (1 + shade + 0.03 * field(x, y, part, 0.04))[..., None]
    face = laid(face, 0.7 * metal, inside(np.abs(radius - 0.66) - 0.015))
    if product.random() < 0.5:
        spokes = folded(angle, int(product.integers(3, 7)))
        window = np.maximum(np.abs(radius - 0.46) - 0.13, product.uniform(0.08, 0.12) - radius * (np.pi / 6 - np.abs(spokes)))
        body = body * (1 - inside(window))
    bore = np.minimum(radius - 0.16, np.maximum(np.abs(x) - 0.05, np.abs(y - 0.14) - 0.08))
    return laid(ground, face, body * (1 - inside(bore)))


def connector(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A connector: a housing with a polarising notch and rows of pins, each a little off."""
    ground, plastic, metal = tint(product, 0.3, 0.95), tint(product, 0.05, 0.7, 0.25), tint(product, 0.65, 0.95, 0.08)
    columns, rows = int(product.integers(3, 9)), int(product.integers(1, 4))
    half = (product.uniform(0.7, 0.88), product.uniform(0.3, 0.6))
    housing = np.maximum(np.abs(x) - half[0], np.abs(y) - half[1])
    picture = laid(ground, plastic * (1 + 0.02 * field(x, y, part, 0.03))[..., None], inside(housing))
    picture = laid(picture, 0.6 * plastic, inside(np.abs(housing + 0.06) - 0.015))
    picture = laid(picture, ground, inside(np.maximum(np.abs(x - 0.3) - 0.08, np.abs(y + half[1]) - 0.05)))
    pitch, size = 1.7 * half[0] / columns, product.uniform(0.02, 0.05)
    for row in (np.arange(rows) - (rows - 1) / 2) * min(0.3, 1.5 * half[1] / rows):
        for column in (np.arange(columns) - (columns - 1) / 2) * pitch:
            off = part.normal(0, 0.003 + 0.004 * vary, 2)
            box = np.maximum(np.abs(x - column - np.float32(off[0])), np.abs(y - row - np.float32(off[1])))
            picture = laid(picture, np.float32(0.04), inside(box - size - 0.02))
            picture = laid(picture, metal * np.float32(part.uniform(0.9, 1.05)), inside(box - size))
    return picture


def casting(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A rough casting: ribs, bosses and a machined face."""
    ground, metal = tint(product, 0.05, 0.3, 0.03), tint(product, 0.4, 0.7, 0.05)
    outline = ellipse(x, y, product.uniform(2, 6)) - 0.85 - 0.01 * vary * rough(x, y, part, 0.3)
    skin = metal * (0.9 + 0.1 * rough(x, y, part, product.uniform(0.03, 0.1)))[..., None]
    ribs = int(product.integers(2, 7))
    spoke = folded(np.arctan2(y, x), ribs)
    radius = np.hypot(x, y)
    rib = np.maximum(np.abs(radius * np.sin(spoke)) - 0.035, radius - 0.75)
    skin = skin * (1 + 0.25 * inside(rib) - 0.25 * inside(rib - 0.03) * (np.sin(spoke) > 0))[..., None]
    for place in product.uniform(-0.55, 0.55, (int(product.integers(1, 5)), 2)):
        boss = np.hypot(x - place[0], y - place[1])
        skin = laid(skin, metal * 1.25, inside(boss - 0.13))
        skin = laid(skin, np.float32(0.05), inside(boss - 0.06))
    return laid(ground, skin, inside(outline))


def tablet(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A tablet: round or oblong, bevelled, scored or stamped, speckled."""
    ground, mass = tint(product, 0.05, 0.6, 0.2), tint(product, 0.6, 0.95, 0.15)
    long_, power = product.uniform(1, 1.9), product.uniform(2, 3)
    outline = ellipse(x / 0.8, y * long_ / 0.8, power) * 0.8 - 0.8
    bevel = np.clip(1 + outline / 0.15, 0, 1)
    shade = 1 - 0.25 * bevel**2 * (0.6 + 0.4 * (x + y))
    face = mass * (shade + 0.02 * field(x, y, part, 0.02))[..., None]
    face = laid(face, mass * 0.6, np.asarray(np.clip(field(x, y, part, 0.03) - 2.2, 0, 1) * product.choice([0, 1]), np.float32))
    if product.random() < 0.5:
        face = face * (1 - 0.3 * inside(np.abs(x) - 0.025))[..., None]
    else:
        stamp = sheet(0.0)
        write(stamp, _text(product, 3), (-0.45, 0.12), 2.0, 1.0, thick=4)
        face = face * (1 - 0.3 * sampled(stamp, x, y))
    return laid(ground * (1 + 0.03 * rough(x, y, part, 0.2))[..., None], face, inside(outline, 60))


def blister(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A blister pack: pockets in rows on embossed foil, each with its highlight."""
    foil, pill = tint(product, 0.6, 0.85, 0.04), tint(product, 0.3, 0.95, 0.3)
    columns, rows = int(product.integers(2, 5)), int(product.integers(2, 5))
    emboss = 0.04 * np.sin(60 * (x + y)) * np.sin(60 * (x - y))
    picture = foil * (1 + emboss + 0.05 * vary * rough(x, y, part, 0.3))[..., None]
    reach = 0.7 / max(columns, rows)
    for row in (np.arange(rows) - (rows - 1) / 2) * 1.7 / rows:
        for column in (np.arange(columns) - (columns - 1) / 2) * 1.7 / columns:
            off = part.normal(0, 0.01 + 0.015 * vary, 2).astype(np.float32)
            far = np.hypot(x - column, y - row)
            picture = laid(picture, foil * 0.75, inside(far - reach))
            picture = laid(
                picture, pill * part.uniform(0.93, 1.05), inside(np.hypot(x - column - off[0], y - row - off[1]) - 0.8 * reach)
            )
            picture = (
                picture
                + 0.25 * np.exp(-((x - column + 0.4 * reach) ** 2 + (y - row + 0.4 * reach) ** 2) / (0.05 * reach))[..., None]
            )
    return laid(tint(product), picture, inside(ellipse(x, y, 10) - 0.95))


def glass(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Glass from above or from the side: rims, reflections, bubbles of light."""
    ground, body = tint(product, 0.3, 0.95, 0.1), tint(product, 0.15, 0.7, 0.25)
    radius, angle = ellipse(x, y, product.uniform(2, 4)), np.arctan2(y, x)
    shade = 1 + 0.25 * np.cos(2 * angle + product.uniform(0, 6.3)) * np.clip(radius / 0.8, 0, 1) ** 3
    picture = body * (shade - 0.3 * radius)[..., None]
    for ring in product.uniform(0.25, 0.8, int(product.integers(2, 5))):
        picture = picture + product.uniform(0.05, 0.2) * np.exp(-((radius - ring) ** 2) / 0.0008)[..., None]
    for place in product.uniform(-0.5, 0.5, (int(product.integers(2, 6)), 2)) + part.normal(0, 0.01 + 0.02 * vary, 2):
        picture = (
            picture + 0.3 * np.exp(-((x - place[0]) ** 2 + 2 * (y - place[1]) ** 2) / product.uniform(0.002, 0.03))[..., None]
        )
    return laid(ground, picture, inside(radius - 0.86))


def thread(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A bolt seen from the side: head, shank, thread; the thread starts anywhere."""
    ground, metal = tint(product, 0.05, 0.95, 0.08), tint(product, 0.35, 0.75, 0.1)
    pitch, thick, head = product.uniform(10, 22), product.uniform(0.16, 0.32), product.uniform(0.3, 0.5)
    start = product.uniform(-0.4, 0)
    phase = pitch * (x + 0.25 * y) + part.uniform(0, 1) * (0.3 + vary)
    cut = x > start
    edge = thick + 0.03 * np.sin(2 * np.pi * phase) * cut
    round_ = np.sqrt(np.clip(1 - (y / (thick + 0.05)) ** 2, 0, 1))
    shade = round_ * (1 + 0.35 * np.sin(2 * np.pi * phase) * cut) + 0.03 * field(x, y, part, 0.04)
    picture = laid(ground, metal * (0.25 + 0.8 * shade)[..., None], inside(np.maximum(np.abs(y) - edge, np.abs(x) - 0.9)))
    flat = 0.8 + 0.2 * (np.abs(y) < 0.5 * head)
    return laid(picture, metal * flat[..., None], inside(np.maximum(np.abs(y) - head, np.abs(x + 0.8) - 0.13)))


def cable(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A cable cut across: a jacket, cores in their colours, strands of copper laid anew in every part."""
    ground, jacket, copper = tint(product, 0.6, 0.95), tint(product, 0.1, 0.5), np.array([0.75, 0.5, 0.3], np.float32)
    picture = laid(ground, jacket * (1 + 0.03 * rough(x, y, part, 0.1))[..., None], inside(np.hypot(x, y) - 0.85))
    cores = int(product.integers(2, 6))
    reach = 0.85 * np.sin(np.pi / cores) / (1 + np.sin(np.pi / cores)) * 0.9
    for n in range(cores):
        turn = 2 * np.pi * n / cores + 0.05 * vary * part.normal()
        u, v = x - (0.82 - reach) * np.cos(turn), y - (0.82 - reach) * np.sin(turn)
        picture = laid(picture, tint(product, 0.2, 0.8, 0.4), inside(np.hypot(u, v) - reach))
        picture = laid(picture, 0.4 * copper, inside(np.hypot(u, v) - 0.6 * reach))
        for strand in part.uniform(-1, 1, (24, 2)):
            if np.hypot(*strand) < 0.9:
                dot = np.hypot(u - 0.55 * reach * strand[0], v - 0.55 * reach * strand[1]) - 0.11 * reach
                picture = laid(picture, copper * part.uniform(0.8, 1.25), inside(dot))
    return picture


def biscuit(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A biscuit: a scalloped edge, docker holes, browning and crumbs of its own."""
    ground, dough = tint(product, 0.05, 0.9), np.array([0.8, 0.6, 0.38], np.float32) * product.uniform(0.7, 1.15)
    scallops, power = int(product.integers(8, 40)), product.uniform(2, 8)
    angle = np.arctan2(y, x)
    outline = ellipse(x, y, power) - 0.8 - 0.02 * np.cos(scallops * angle) - 0.012 * (0.5 + vary) * rough(x, y, part, 0.4)
    bake = np.clip(1 + outline / 0.3, 0, 1) ** 2 * product.uniform(0.1, 0.35)
    face = dough * (1 - bake + 0.06 * rough(x, y, part, 0.08) + 0.08 * vary * rough(x, y, part, 0.6))[..., None]
    pitch = product.uniform(0.2, 0.4)
    hole = np.hypot((x % pitch) - pitch / 2, (y % pitch) - pitch / 2) - 0.018
    face = face * (1 - 0.5 * inside(hole))[..., None]
    chips = np.asarray(np.clip(3 * (field(x, y, part, 0.12) - 1.6), 0, 1) * product.choice([0, 1]), np.float32)
    return laid(ground, laid(face, np.array([0.25, 0.15, 0.1], np.float32), chips), inside(outline, 60))


def screw(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A fastener in its seat: the head turned as it came, a hexagon, cross or star drive."""
    seat, metal = tint(product, 0.2, 0.8), tint(product, 0.4, 0.85, 0.1)
    picture = seat * (1 + 0.05 * rough(x, y, part, product.uniform(0.05, 0.3)))[..., None]
    radius = np.hypot(x, y)
    picture = laid(picture, 0.4 * seat, inside(radius - 0.72))
    u, v = rotated(x, y, part.uniform(0, 2 * np.pi) * product.choice([0.02, 1]))
    marks = 0.05 * np.sin(90 * radius) + 0.1 * np.cos(2 * np.arctan2(y, x) + 0.8)
    picture = laid(picture, metal * (1 + marks + 0.03 * field(x, y, part, 0.05))[..., None], inside(radius - 0.65))
    drive = product.integers(3)
    wedge = folded(np.arctan2(v, u), 6)
    shapes = (np.minimum(np.maximum(np.abs(u) - 0.3, np.abs(v) - 0.06), np.maximum(np.abs(v) - 0.3, np.abs(u) - 0.06)),
              radius * np.cos(wedge) - 0.28, radius - 0.26 - 0.05 * np.cos(6 * wedge))  # fmt: skip
    return laid(picture, 0.15 * metal, inside(shapes[drive]))


def capsule(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A capsule of two colours with a printed mark and a long highlight."""
    ground, left, right = tint(product, 0.1, 0.95, 0.1), tint(product, 0.3, 0.9, 0.4), tint(product, 0.3, 0.9, 0.4)
    thick = product.uniform(0.25, 0.4)
    far = np.hypot(np.maximum(np.abs(x) - (0.85 - thick), 0), y) - thick
    seam = product.uniform(-0.1, 0.25) + 0.02 * vary * part.normal()
    body = np.where((x < seam)[..., None], left, right * (0.9 + 0.1 * (np.abs(y) < thick))[..., None])
    mark = sheet(0.0)
    write(mark, _text(product, 4), (-0.55, 0.05), 0.9, 1.0, thick=2)
    roll = 0.06 * vary * part.normal()
    body = body * (1 - 0.6 * sampled(mark, x, y + np.float32(roll)))
    shade = np.sqrt(np.clip(1 - (y / (thick + 0.03)) ** 2, 0, 1))
    shine = 0.3 * np.exp(-((y + 0.4 * thick) ** 2) / 0.002) * inside(np.abs(x) - 0.6, 12)
    return laid(ground, body * (0.45 + 0.55 * shade)[..., None] + shine[..., None], inside(far, 60))


def bearing(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A ball bearing: two races, balls where they rolled to, a cage or a shield."""
    ground, steel = tint(product, 0.05, 0.95), tint(product, 0.45, 0.8, 0.05)
    radius, angle = np.hypot(x, y), np.arctan2(y, x) + part.uniform(0, 2 * np.pi) * vary
    balls, sheen = int(product.integers(6, 14)), 0.12 * np.cos(2 * np.arctan2(y, x) + product.uniform(0, 6.3))
    face = steel * (1 + sheen + 0.03 * field(x, y, part, 0.05))[..., None]
    picture = laid(ground, face, inside(radius - 0.88) * (1 - inside(radius - 0.28)))
    picture = laid(picture, tint(product, 0.05, 0.5), inside(np.abs(radius - 0.58) - 0.14))
    spoke = folded(angle, balls)
    ball = np.hypot(radius * np.cos(spoke) - 0.58, radius * np.sin(spoke))
    lit = np.clip(1 - (ball / 0.12) ** 2, 0, 1)
    return laid(picture, (steel * (0.4 + 0.7 * lit)[..., None]), inside(ball - 0.115))


def bottle(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A filled container from the side: neck, cap, level of the filling, a band of print."""
    ground, body, filling = tint(product, 0.5, 0.95, 0.05), tint(product, 0.4, 0.9, 0.2), tint(product, 0.15, 0.8, 0.35)
    wide, neck = product.uniform(0.35, 0.6), product.uniform(0.12, 0.25)
    shoulder = product.uniform(-0.45, -0.2)
    half = np.where(y > shoulder, wide, neck + (wide - neck) * np.clip(1 - (shoulder - y) / 0.2, 0, 1) ** 2)
    outline = np.maximum(np.abs(x) - half, np.abs(y) - 0.9)
    level = product.uniform(-0.3, 0.1) + 0.02 * (0.3 + vary) * part.normal()
    inner = np.where((y > level)[..., None], filling, body)
    shade = 0.55 + 0.45 * np.sqrt(np.clip(1 - (x / (half + 0.02)) ** 2, 0, 1))
    picture = laid(ground, inner * shade[..., None], inside(outline))
    paper = sheet(tint(product, 0.6, 0.95, 0.2))
    write(paper, _text(product, 6), (-0.4, 0.42), 1.6, tint(product, 0.05, 0.3), font=1, thick=2)
    band = np.maximum(np.abs(x) - wide, np.abs(y - 0.4) - 0.2)
    shift = np.float32(0.03 * vary * part.normal())
    picture = laid(picture, sampled(paper, x - shift, y) * shade[..., None], inside(band))
    return laid(
        picture,
        tint(product, 0.1, 0.9, 0.3) * shade[..., None],
        inside(np.maximum(np.abs(x) - neck - 0.04, np.abs(y + 0.82) - 0.1)),
    )
