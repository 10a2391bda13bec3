"""Drawn surfaces that fill the picture: cloths, woods, metals, cells, boards, grains."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from inspection.drawn import Grid, inside
from inspection.products.canvas import Rng, at, field, laid, long, rotated, rough, sampled, sheet, tint, write


def twill(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Twill or satin: a diagonal rib, threads of uneven thickness, a stripe of another colour in some."""
    count, steps = product.uniform(22, 42), int(product.integers(2, 5))
    warp, weft, stripe = tint(product), tint(product), tint(product)
    wave = 0.05 * vary * rough(x, y, part, 0.6)
    u, v = count * (x + wave), count * (y - wave)
    row = np.floor(v)
    over = ((np.floor(u) + row) % (steps + 1)) < 1 + (product.random() < 0.3)
    thread = np.where(over, np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1)))
    ground = np.where(over[..., None], warp, weft)
    if product.random() < 0.4:
        wide = product.uniform(0.3, 0.8)
        ground = laid(ground, stripe, np.asarray((x % wide) < wide * product.uniform(0.2, 0.5), np.float32))
    fuzz = 0.06 * vary * field(x, y, part, 0.03)
    return ground * (0.5 + 0.5 * thread + fuzz)[..., None] + 0.06


def knit(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A knitted cloth: columns of loops."""
    columns, rows, yarn = product.uniform(9, 18), product.uniform(12, 24), tint(product)
    u = columns * (x + 0.03 * vary * rough(x, y, part, 0.5))
    v = rows * (y + 0.03 * vary * rough(x, y, part, 0.5))
    leg = np.abs((u % 1) - 0.5)
    loop = np.abs(np.sin(np.pi * (v + 1.6 * leg)))
    shade = 0.35 + 0.65 * loop * np.cos(np.pi * (leg - 0.25)) ** 2
    return yarn * (shade + 0.05 * field(x, y, part, 0.02))[..., None] + 0.05


def wood(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Grain: rings cut lengthwise, another cut in every part, fine pores."""
    light, dark, rings = tint(product, 0.5, 0.8, 0.12), tint(product, 0.2, 0.5, 0.12), product.uniform(5, 14)
    x, y = rotated(x, y, product.uniform(0, np.pi))
    off = part.uniform(-1, 1) * (0.1 + vary)
    cut = np.hypot(1.3 * y + off, 0.25 * x + 0.4) + 0.04 * field(x, y, part, 0.5, 0.25) * (0.5 + vary)
    ring = 0.5 + 0.5 * np.sin(2 * np.pi * rings * cut)
    pores = np.clip(field(x, y, part, 0.14, 0.06) - 1.4, 0, 1)
    return (
        laid(light, dark, np.asarray(ring**2 * 0.8, np.float32)) * (1 - 0.3 * pores + 0.03 * field(x, y, part, 0.02))[..., None]
    )


def brushed(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Brushed metal: streaks along one direction, a soft sheen."""
    colour, angle = tint(product, 0.4, 0.75, 0.05), product.uniform(0, np.pi)
    u, v = rotated(x, y, angle)
    streaks = 0.05 * field(u, v, part, 0.7, 0.02) + 0.03 * field(u, v, part, 0.2, 0.08)
    sheen = 0.12 * np.exp(-((v - product.uniform(-0.5, 0.5) - 0.15 * vary * part.normal()) ** 2) / 0.2)
    return colour * (0.85 + product.uniform(0.5, 1.5) * streaks + sheen)[..., None]


def solar(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A solar cell: fingers, bus bars, crystals of another tone in every part where it is polycrystalline."""
    cell, metal, poly = tint(product, 0.1, 0.4, 0.1), tint(product, 0.55, 0.9, 0.04), product.random() < 0.6
    tone = np.zeros_like(x)
    if poly:
        seeds = part.uniform(-1.6, 1.6, (90, 2))
        nearest = np.argmin([(x - s[0]) ** 2 + (y - s[1]) ** 2 for s in seeds], 0)
        tone = part.normal(0, 0.05 * (0.5 + vary), 90).astype(np.float32)[nearest]
    picture = cell + tone[..., None] + 0.01 * field(x, y, part, 0.05)[..., None]
    fingers, bars = product.uniform(18, 40), int(product.integers(2, 6))
    picture = laid(picture, metal, np.asarray(0.45 * (np.abs(((fingers * y) % 1) - 0.5) < 0.09), np.float32))
    for bar in np.linspace(-0.7, 0.7, bars):
        picture = laid(picture, metal, inside(np.abs(x - bar) - 0.025))
    corner = product.uniform(1.35, 1.9)
    return laid(
        np.float32(0.05),
        picture,
        inside(np.maximum(np.maximum(np.abs(x), np.abs(y)) - 0.96, (np.abs(x) + np.abs(y) - corner) / 1.4)),
    )


def board(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A printed circuit: traces, pads, vias, packages with legs, white print."""
    mask, copper = tint(product, 0.1, 0.45, 0.2), tint(product, 0.5, 0.85, 0.15)
    canvas = sheet(mask)
    trace = tuple((0.55 * mask + 0.45 * copper).tolist())
    pad = tuple(copper.tolist())
    for _ in range(int(product.integers(12, 30))):
        here = product.uniform(-1, 1, 2)
        points = [at(*here)]
        for _ in range(int(product.integers(2, 5))):
            here = here + product.choice([-1, 0, 1], 2) * product.uniform(0.08, 0.5)
            points.append(at(*here))
        cv2.polylines(canvas, [np.array(points, np.int32)], False, trace, long(product.uniform(0.008, 0.03)), cv2.LINE_AA)
        cv2.circle(canvas, points[0], long(0.03), pad, -1, cv2.LINE_AA)
        cv2.circle(canvas, points[0], long(0.012), (0.05, 0.05, 0.05), -1, cv2.LINE_AA)
    for _ in range(int(product.integers(2, 7))):
        (left, top), (wide, high) = product.uniform(-0.9, 0.6, 2), product.uniform(0.08, 0.35, 2)
        for leg in np.arange(top + 0.02, top + high, 0.045):
            cv2.rectangle(canvas, at(left - 0.04, leg), at(left + wide + 0.04, leg + 0.02), pad, -1)
        cv2.rectangle(canvas, at(left, top), at(left + wide, top + high), tuple(tint(product, 0.05, 0.25, 0.03).tolist()), -1)
        write(canvas, f"{product.integers(100, 999)}", (left + 0.02, top + high / 2), 0.35, 0.8)
    picture = sampled(canvas, x, y)
    return picture * (1 + 0.03 * vary * rough(x, y, part, 0.3))[..., None] + 0.01 * field(x, y, part, 0.03)[..., None]


def grains(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Loose food: grains, seeds or flakes, thrown anew for every part."""
    colours = [tint(product, 0.35, 0.85, 0.15) for _ in range(int(product.integers(1, 4)))]
    canvas, ground = sheet(tint(product, 0.1, 0.5, 0.1)), product.uniform(0.05, 0.13)
    slim = product.uniform(0.35, 1)
    for _ in range(int(min(3.0 / ground**2, 700))):
        middle, angle = part.uniform(-1.05, 1.05, 2), part.uniform(0, 360)
        size = ground * part.uniform(0.8, 1.2) * (1 + 0.2 * vary * part.normal())
        axes = (long(size), long(size * slim))
        colour = colours[part.integers(len(colours))] * part.uniform(0.85, 1.1)
        centre = at(*middle)
        cv2.ellipse(canvas, (centre[0] + 2, centre[1] + 3), axes, angle, 0, 360, tuple((0.45 * colour).tolist()), -1, cv2.LINE_AA)
        cv2.ellipse(canvas, centre, axes, angle, 0, 360, tuple(colour.tolist()), -1, cv2.LINE_AA)
        shine = (centre[0] - axes[1] // 4, centre[1] - axes[1] // 3)
        cv2.ellipse(canvas, shine, (axes[0] // 2, axes[1] // 3), angle, 0, 360, tuple((1.15 * colour).tolist()), -1, cv2.LINE_AA)
    return sampled(canvas, x, y)


def leather(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Leather, cork, carpet or concrete: folds and pores in the product's grain, thrown anew for every part."""
    colour, cell, depth = tint(product), product.uniform(0.03, 0.12), product.uniform(0.05, 0.2)
    folds = np.abs(field(x, y, part, cell)) - 0.8 if product.random() < 0.5 else field(x, y, part, cell)
    second = field(x, y, part, cell * product.uniform(0.2, 0.5))
    return colour * (0.9 + depth * folds + 0.5 * depth * second + 0.04 * vary * rough(x, y, part, 0.8))[..., None]


def mesh(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """A perforated sheet or a grille: holes in rows or staggered."""
    metal, dark, count = tint(product, 0.4, 0.85, 0.1), tint(product, 0.02, 0.3, 0.05), product.uniform(4, 12)
    stagger, power, radius = product.random() < 0.5, product.choice([2.0, 6.0, 1.0]), product.uniform(0.25, 0.42)
    u, v = count * x, count * y
    u = u + 0.5 * (np.floor(v) % 2) if stagger else u
    hole = (np.abs((u % 1) - 0.5) ** power + np.abs((v % 1) - 0.5) ** power) ** (1 / power) - radius
    lit = 0.15 * np.exp(-((hole - 0.03) ** 2) / 0.002) * ((u % 1) - (v % 1))
    face = metal * (1 + lit + 0.03 * field(x, y, part, 0.25, 0.05) + 0.03 * vary * rough(x, y, part, 0.5))[..., None]
    return laid(face, dark, inside(hole / count))


def tiles(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Ceramic tiles or bricks with joints: each has a tone of its own."""
    glaze, joint = tint(product), tint(product, 0.3, 0.8, 0.04)
    wide, high, bond = product.uniform(2, 5), product.uniform(2, 7), 0.5 * (product.random() < 0.6)
    v = high * y
    u = wide * x + bond * (np.floor(v) % 2)
    edge = 0.5 - np.maximum(np.abs((u % 1) - 0.5) + 0.0, np.abs((v % 1) - 0.5))
    tones = part.normal(0, 0.03 + 0.05 * vary, (24, 24)).astype(np.float32)
    tone = tones[np.floor(v).astype(int) % 24, np.floor(u).astype(int) % 24]
    face = glaze * (1 + tone + 0.05 * rough(x, y, part, product.uniform(0.05, 0.3)))[..., None]
    return laid(face, joint * (1 + 0.05 * field(x, y, part, 0.03))[..., None], inside(edge - 0.05, 25))


def marble(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Stone or laminate: veins and speckles, another piece of the block in every part."""
    ground, vein = tint(product, 0.3, 0.9, 0.06), tint(product, 0.1, 0.9, 0.1)
    cell = product.uniform(0.3, 0.8)
    lines = np.exp(-(np.abs(rough(x, y, part, cell)) ** 2) / product.uniform(0.01, 0.06))
    specks = np.clip(field(x, y, part, product.uniform(0.02, 0.05)) - 1.5, 0, 1)
    return laid(
        laid(ground, vein, np.asarray(0.5 * lines, np.float32)), vein, np.asarray(specks * (0.3 + 0.5 * vary), np.float32)
    )


def ribbed(x: Grid, y: Grid, product: Rng, part: Rng, vary: float) -> Any:
    """Corrugated or extruded: parallel ribs of one profile, a groove between."""
    colour, ribs, angle = tint(product, 0.2, 0.8), product.uniform(5, 16), product.choice([0.0, np.pi / 2, np.pi / 4])
    u, v = rotated(x, y, angle)
    phase = ribs * (u + 0.01 * vary * rough(x, y, part, 0.8)) + vary * part.uniform(0, 1)
    profile = np.sin(2 * np.pi * phase) + product.uniform(-0.4, 0.4) * np.sin(4 * np.pi * phase + product.uniform(0, 6.3))
    return colour * (0.8 + 0.22 * profile + 0.03 * field(u, v, part, 0.03, 12))[..., None]
