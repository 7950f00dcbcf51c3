"""A terminal of a fixed size: a program runs in it, keys are pressed, and its screen is drawn as SVG."""

import codecs
import fcntl
import html
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

FONT_PX, LINE_PX, CHAR_PX, MARGIN_PX = 13, 18, 7.83, 16
BACKGROUND, TEXT = "#15191e", "#c9d1d9"
# The 16 colours, as terminals number them.
COLOURS = [
    "#484f58", "#ff7b72", "#7ee787", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
]
SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([@-~])")
PLAIN = (TEXT, False, False)


class Terminal:
    """A program in a terminal, and its screen."""

    def __init__(self, command, columns, rows, **options):
        self.columns, self.rows = columns, rows
        self.clear()
        self.row = self.column = 0
        self.style, self.pending = PLAIN, ""
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.keys, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.program = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, **options)
        os.close(side)

    def clear(self):
        self.cells = [[(" ", PLAIN)] * self.columns for _ in range(self.rows)]

    def press(self, keys):
        os.write(self.keys, keys.encode())

    def text(self):
        return "\n".join("".join(cell for cell, _ in row) for row in self.cells)

    def watch(self, seconds, wanted=lambda text: False):
        """Follows the screen for so long, or until it is as wanted, and says whether it was."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if wanted(self.text()):
                return True
            if select.select([self.keys], [], [], 0.1)[0]:
                try:
                    self.show(self.decode(os.read(self.keys, 65536)))
                except OSError:
                    return False
        return False

    def end(self, key):
        self.press(key)
        self.watch(5, lambda _: self.program.poll() is not None)
        self.program.kill()
        code = self.program.wait()
        os.close(self.keys)
        return code

    def show(self, text):
        text, self.pending = self.pending + text, ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = SEQUENCE.match(text, at)
                if found is None:
                    # The rest of it has not come yet.
                    self.pending = text[at:]
                    return
                self.obey(found[1], found[2])
                at = found.end()
                continue
            if text[at] == "\r":
                self.column = 0
            elif text[at] == "\n":
                self.row = min(self.row + 1, self.rows - 1)
            elif self.row < self.rows and self.column < self.columns:
                self.cells[self.row][self.column] = (text[at], self.style)
                self.column += 1
            at += 1

    def obey(self, arguments, command):
        numbers = [int(number or 0) for number in arguments.strip("?").split(";")]
        if command == "H":
            self.row, self.column = max(numbers[0], 1) - 1, max((numbers + [1])[1], 1) - 1
        elif command == "J":
            self.clear()
        elif command == "m":
            self.restyle(numbers)

    def restyle(self, numbers):
        colour, bold, inverse = self.style
        numbers = iter(numbers)
        for number in numbers:
            if number == 0:
                colour, bold, inverse = PLAIN
            elif number in (1, 22):
                bold = number == 1
            elif number in (7, 27):
                inverse = number == 7
            elif number == 39:
                colour = TEXT
            elif number in (38, 48):
                kind = next(numbers, 0)
                values = [next(numbers, 0) for _ in range(1 if kind == 5 else 3)]
                if number == 38 and kind == 5:
                    colour = COLOURS[values[0] % 16]
            elif 30 <= number <= 37:
                colour = COLOURS[number - 30]
            elif 90 <= number <= 97:
                colour = COLOURS[number - 82]
        self.style = (colour, bold, inverse)

    def svg(self, label):
        """The screen as SVG."""
        width = round(self.columns * CHAR_PX + 2 * MARGIN_PX)
        height = self.rows * LINE_PX + 2 * MARGIN_PX
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
            f' aria-label="{html.escape(label)}">',
            f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
            f'<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{FONT_PX}" xml:space="preserve">',
        ]
        for number, row in enumerate(self.cells):
            y = MARGIN_PX + FONT_PX + number * LINE_PX
            column = 0
            while column < self.columns:
                style = row[column][1]
                end = column
                while end < self.columns and row[end][1] == style:
                    end += 1
                run = "".join(cell for cell, _ in row[column:end])
                if run.strip():
                    colour, bold, _ = style
                    weight = ' font-weight="bold"' if bold else ""
                    # Fonts differ: the length of each run is that of its cells.
                    x, length = MARGIN_PX + column * CHAR_PX, (end - column) * CHAR_PX
                    out.append(
                        f'<text x="{x:.1f}" y="{y}" fill="{colour}"{weight} textLength="{length:.1f}"'
                        f' lengthAdjust="spacingAndGlyphs">{html.escape(run)}</text>'
                    )
                column = end
        return "\n".join([*out, "</g>", "</svg>", ""])
