"""Lines over time, drawn as an SVG."""

import html

COLOURS = ["#06c", "#e80", "#393", "#c0c", "#0aa", "#a60", "#777", "#c00"]
LEFT, WIDTH, HEIGHT, PANEL_HEIGHT = 70, 400, 130, 200
COLUMNS = 2


def scaled(value, unit):
    """A value of an axis in few characters."""
    if unit in ("bytes", "Bps"):
        for name in ("", "Ki", "Mi", "Gi"):
            if value < 1024 or name == "Gi":
                return f"{value:.3g} {name}B" + ("/s" if unit == "Bps" else "")
            value /= 1024
    if unit == "percentunit":
        return f"{value * 100:.0f} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}"


def panel(title, unit, curves, marks, end):
    """`curves`: a name to pairs of second and value. `marks`: spans of seconds that are shaded."""
    points = [value for curve in curves.values() for _, value in curve]
    top = max(points, default=0) * 1.1 or 1

    def x(second):
        return LEFT + second / end * WIDTH

    def y(value):
        return 28 + HEIGHT - max(value, 0) / top * HEIGHT

    out = [f'<text x="{LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>']
    for begin, finish in marks:
        out.append(f'<rect x="{x(begin):.1f}" y="28" width="{x(finish) - x(begin):.1f}" height="{HEIGHT}" fill="#fdd"/>')
    for part in range(5):
        value = top * part / 4
        out.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 4}" y="{y(value) + 3:.1f}" text-anchor="end">{scaled(value, unit)}</text>')
    for minute in range(0, int(end // 60) + 1, 2):
        out.append(f'<text x="{x(minute * 60):.1f}" y="{28 + HEIGHT + 13}" text-anchor="middle">{minute} min</text>')
    largest = sorted(curves.items(), key=lambda item: -max((value for _, value in item[1]), default=0))
    for (name, curve), colour in zip(largest[: len(COLOURS)], COLOURS):
        line = " ".join(f"{x(second):.1f},{y(value):.1f}" for second, value in curve)
        out.append(f'<polyline fill="none" stroke="{colour}" points="{line}"/>')
    legend = "".join(
        f'<tspan fill="{colour}" dx="8">{html.escape(name)}</tspan>' for (name, _), colour in zip(largest[:6], COLOURS)
    )
    out.append(f'<text x="{LEFT - 8}" y="{28 + HEIGHT + 28}" font-size="10">{legend}</text>')
    return "\n".join(out)


def svg(panels, marks, end):
    """`panels`: triples of title, unit and curves."""
    rows = (len(panels) + COLUMNS - 1) // COLUMNS
    width, height = COLUMNS * (LEFT + WIDTH + 20), rows * PANEL_HEIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" role="img"'
        ' aria-label="Queries of the dashboard over a walk with an outage, which is shaded">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (title, unit, curves) in enumerate(panels):
        left, down = number % COLUMNS * (LEFT + WIDTH + 20), number // COLUMNS * PANEL_HEIGHT
        out += [f'<g transform="translate({left} {down})">', panel(title, unit, curves, marks, end), "</g>"]
    return "\n".join([*out, "</svg>", ""])
