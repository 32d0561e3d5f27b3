"""The roofline picture (Williams et al., "Roofline: An Insightful Visual Performance Model", CACM 2009) of a step's
launches. Part of tools/predict_step.py."""

import math

from card_model import BANDWIDTH, peak

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 960, 500, 90, 15, 280, 50
# Operations a byte; operations a second.
X, Y = (0.03, 2000), (8e9, 4e13)
# Launches that take a smaller share of the step are not drawn.
LEAST = 5e-4
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#8c564b", "#9467bd", "#ff7f0e", "#17becf", "#7f7f7f", "#bcbd22")


def at(x, y):
    """Where a value lies in the picture."""
    def share(value, ends):
        return math.log(value / ends[0]) / math.log(ends[1] / ends[0])

    return (LEFT + share(x, X) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share(y, Y) * (HEIGHT - TOP - BOTTOM))


def line(start, end, style):
    (x1, y1), (x2, y2) = at(*start), at(*end)
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def label(place, text, style=""):
    return f'<text x="{place[0]:.1f}" y="{place[1]:.1f}" {style}>{text}</text>'


def axes():
    grid = 'stroke="#e4e4e4"'
    for power in range(-1, 4):
        yield line((10.0**power, Y[0]), (10.0**power, Y[1]), grid)
        x, y = at(10.0**power, Y[0])
        yield label((x, y + 18), f"{10.0**power:g}", 'text-anchor="middle"')
    for power, name in ((10, "10 GFLOP/s"), (11, "100"), (12, "1 TFLOP/s"), (13, "10")):
        yield line((X[0], 10.0**power), (X[1], 10.0**power), grid)
        x, y = at(X[0], 10.0**power)
        yield label((x - 6, y + 4), name.split()[0] if power % 2 else name.replace(" ", "\u00a0"), 'text-anchor="end"')
    yield label((LEFT, HEIGHT - 8), "operations a byte: a line from the bytes counted to the least, the dot")


def roofs():
    for precision, style in (("tf32", 'stroke="#333" stroke-width="1.5"'),
                             ("bf16", 'stroke="#333" stroke-dasharray="5 4"')):
        top = peak(precision)
        yield line((X[0], X[0] * BANDWIDTH), (top / BANDWIDTH, top), style)
        yield line((top / BANDWIDTH, top), (X[1], top), style)
        x, y = at(X[1], top)
        yield label((x + 6, y + 4), f"{precision}: {top / 1e12:.1f} TFLOP/s")
    x, y = at(0.3, 0.3 * BANDWIDTH)
    yield label((x - 8, y - 8), f"{BANDWIDTH / 1e9:.0f} GB/s", 'text-anchor="end"')


def picture(rows):
    """SVG of (part, prediction) rows; the area of a dot is the share of the step."""
    names = list(dict.fromkeys(name for name, _ in rows))
    colour = dict(zip(names, COLOURS))
    whole = sum(row.best() * row.launch.count for _, row in rows)
    marks = []
    for name, row in rows:
        operations, share = row.launch.operations(), row.best() * row.launch.count / whole
        points = [(operations / size, operations / time) for size, time in
                  ((row.minimal, row.best()), (row.counted, row.worst()))]
        if share < LEAST or any(not (X[0] <= x <= X[1] and Y[0] <= y <= Y[1]) for x, y in points):
            continue
        (x, y), radius = at(*points[0]), 2 + 40 * math.sqrt(share)
        marks.append(line(points[1], points[0], f'stroke="{colour[name]}" stroke-opacity="0.6"'))
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour[name]}" fill-opacity="0.45"/>')
    key = []
    for place, name in enumerate(names):
        y = 190 + 20 * place
        key.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{y - 4}" r="5" fill="{colour[name]}"/>')
        key.append(label((WIDTH - RIGHT + 26, y), name))
    parts = [*axes(), *roofs(), *marks, *key]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"
