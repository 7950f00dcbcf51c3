"""What a run found, as tables on the terminal, and as plots and a section of the documentation."""

import statistics

from sizes import STEPS, Sizes
from systems import SYSTEMS, PlainS3, Strongroom
from work import Failed

# (what, step, field, unit, which is better, how it is made from what the step found)
FIGURES = [
    ("write {large_mib} MiB, until in S3", "write", "MiB/s", "more", lambda found, sizes: sizes.large_mib / found["seconds"]),
    ("cold read of it, in order", "read", "MiB/s", "more", lambda found, sizes: sizes.large_mib / found["seconds"]),
    ("unpack {files} files, until in S3", "untar", "s", "less", lambda found, _: found["seconds"]),
    ("cold `find -ls` over them", "find", "s", "less", lambda found, _: found["seconds"]),
    ("cold read of them all", "read small", "s", "less", lambda found, _: found["seconds"]),
    ("the same, shuffled", "read shuffled", "s", "less", lambda found, _: found["seconds"]),
    ("`rm -rf`, until in S3", "remove", "s", "less", lambda found, _: found["seconds"]),
    ("cold random 4 KiB reads", "random", "a second", "more", lambda found, _: found["reads"] / found["seconds"]),
    ("random reads: moved for each", "random", "KiB", "less", lambda found, _: found["moved_mib"] * 1024 / found["reads"]),
    ("random 4 KiB writes", "overwrite", "a second", "more", lambda found, _: found["pages"] / found["writing_s"]),
    ("random writes: moved until in S3", "overwrite", "MiB", "less", lambda found, _: found["moved_mib"]),
    ("cold random reads of that", "random again", "a second", "more", lambda found, _: found["reads"] / found["seconds"]),
    ("random reads of that: moved", "random again", "MiB", "less", lambda found, _: found["moved_mib"]),
    ("64 readers that leave early", "readers", "s", "less", lambda found, _: found["seconds"]),
    ("64 readers: moved", "readers", "MiB", "less", lambda found, _: found["moved_mib"]),
    ("4 KiB file: `fsync` returns", "fsync", "ms", "less", lambda found, _: found["returned_ms"]),
    ("4 KiB file: it is in S3", "fsync", "ms", "less", lambda found, _: found["durable_ms"]),
    ("unmount of an idle mount", "unmount", "s", "less", lambda found, _: found["seconds"]),
    ("requests while idle", "idle", "a minute", "less", lambda found, _: requests_of(found) * 60 / found["idle_s"]),
]
# A difference that is smaller than this is called none.
NOISE_SHARE = 0.1


def requests_of(found):
    return found["writes"] + found["reads_s3"] + found["others"]


def number(value):
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Report:
    """Turns results, fresh or from a file, into tables, plots and a section of the documentation."""

    def __init__(self, results):
        self.results = results
        self.sizes = Sizes(results["quick"])
        self.reasons = []
        keys = list(dict.fromkeys(run["system"] for run in results["runs"]))
        self.systems = [system for key, system in SYSTEMS.items() if key in keys]
        self.latencies = list(dict.fromkeys(run["latency_ms"] for run in results["runs"]))

    def found(self, latency_ms, system, step):
        """What the rounds found in a step, and why others did not."""
        steps = [run["steps"].get(step) for run in self.results["runs"] if (run["latency_ms"], run["system"]) == (latency_ms, system.key)]
        steps = [step for step in steps if step is not None]
        return [step for step in steps if "error" not in step], [step["error"] for step in steps if "error" in step]

    def values(self, latency_ms, system, figure):
        _, step, _, _, make = figure
        return [make(found, self.sizes) for found in self.found(latency_ms, system, step)[0]]

    def missing(self, errors, latency_ms, system, step):
        if not errors:
            return "-"
        text = f"{system.title}, {self.latency_title(latency_ms)}, {step}: {errors[0]}"
        if text not in self.reasons:
            self.reasons.append(text)
        return f"- ({self.reasons.index(text) + 1})"

    def latency_title(self, latency_ms):
        return f"{latency_ms} ms away" if latency_ms else "loopback"

    def figure_rows(self, latency_ms):
        yield ["", *(system.title for system in self.systems)]
        for figure in FIGURES:
            row = [f"{self.name(figure)} ({figure[2]})"]
            for system in self.systems:
                values = self.values(latency_ms, system, figure)
                if not values:
                    row.append(self.missing(self.found(latency_ms, system, figure[1])[1], latency_ms, system, figure[1]))
                elif max(values) > (1 + NOISE_SHARE) * min(values):
                    row.append(f"{number(min(values))} to {number(max(values))}")
                else:
                    row.append(number(statistics.mean(values)))
            if any(cell[0] != "-" for cell in row[1:]):
                yield row

    def cost_rows(self, latency_ms):
        yield ["", *(system.title for system in self.systems)]
        for step in STEPS:
            row = [step]
            for system in self.systems:
                found, _ = self.found(latency_ms, system, step)
                row.append(self.cost(found) if found else "-")
            if any(cell != "-" for cell in row[1:]):
                yield row

    @staticmethod
    def cost(found):
        def mean(field):
            return statistics.mean(one[field] for one in found)

        cell = f"{mean('writes'):.0f} / {mean('reads_s3'):.0f} / {mean('others'):.0f}; {mean('moved_mib'):,.1f}"
        if found[0]["cpu_s"] is not None:
            cell += f"; {mean('cpu_s'):.1f}; {max(one['peak_mib'] for one in found):.0f}"
        return cell

    def name(self, figure):
        return figure[0].format(**vars(self.sizes))

    def peak_mib(self, system):
        peaks = [
            step["peak_mib"]
            for run in self.results["runs"]
            if run["system"] == system.key
            for step in run["steps"].values()
            if step.get("peak_mib") is not None
        ]
        return max(peaks, default=None)

    def peers_ahead(self):
        """Where a mounted peer is better than Strongroom by more than noise. Plain S3 is a ceiling, not a peer."""
        for latency_ms in self.latencies:
            for figure in FIGURES:
                ours = self.values(latency_ms, Strongroom, figure)
                for system in self.systems:
                    theirs = self.values(latency_ms, system, figure)
                    if system in (Strongroom, PlainS3) or not ours or not theirs:
                        continue
                    a, b = statistics.mean(ours), statistics.mean(theirs)
                    ahead = b > a * (1 + NOISE_SHARE) if figure[3] == "more" else b < a * (1 - NOISE_SHARE)
                    if ahead:
                        what = f"{number(b)} against {number(a)} {figure[2]}"
                        yield f"{self.latency_title(latency_ms)}, {self.name(figure)}: {system.title}, {what}"

    COST_LEGEND = "requests that write / read / do other things; MiB moved both ways; CPU seconds; peak RSS in MiB"

    def text(self):
        out = []
        for latency_ms in self.latencies:
            out += [f"== {self.latency_title(latency_ms)}", *aligned(list(self.figure_rows(latency_ms))), ""]
            out += [f"== {self.latency_title(latency_ms)}: {self.COST_LEGEND}", *aligned(list(self.cost_rows(latency_ms))), ""]
        out += [f"({index}) {reason}" for index, reason in enumerate(self.reasons, 1)]
        if Strongroom not in self.systems:
            return "\n".join(out)
        ahead = list(self.peers_ahead())
        out += ["", "A peer is ahead of Strongroom:" if ahead else "No peer is ahead of Strongroom by more than 10 %.", *ahead]
        return "\n".join(out)

    def rounds(self):
        """How often everything was measured: an interrupted run has fewer of what comes last."""
        made = {latency_ms: [run["system"] for run in self.results["runs"] if run["latency_ms"] == latency_ms] for latency_ms in self.latencies}
        made = {latency_ms: min(systems.count(system.key) for system in self.systems) for latency_ms, systems in made.items()}
        number = {1: "one round"}
        said = [f"{number.get(count, f'{count} rounds, interleaved')} {self.latency_title(latency_ms)}" for latency_ms, count in made.items()]
        return ", ".join(said).replace("loopback", "on loopback")

    def section(self):
        results = self.results
        scale = ", an eighth of the usual work (`--quick`)" if results["quick"] else ""
        out = [
            f"Measured on {results['date']} on {results['machine']}; {self.rounds()}{scale}. Where the rounds differ by more than",
            f"{NOISE_SHARE:.0%} both ends are given, else their mean. The server runs on the same machine and does not wait for its disk (`--no-sync`).",
            "",
            "| system | version | settings | what counts as in S3 | cold means |",
            "|---|---|---|---|---|",
        ]
        for system in self.systems:
            out.append(f"| {system.title} | {results['versions'][system.key]} | {system.settings} | {system.durability} | {system.cold} |")
        for latency_ms in self.latencies:
            title = "Loopback" if not latency_ms else f"Every request takes {latency_ms} ms longer"
            out += ["", f"### {title}", "", *markdown(list(self.figure_rows(latency_ms))), "", f"![{title}](benchmarks/{self.plot_name(latency_ms)})"]
            out += ["", f"What it took: {self.COST_LEGEND}.", "", *markdown(list(self.cost_rows(latency_ms)))]
        out += ["", "### Memory", "", "![The most memory that a system's processes took together](benchmarks/memory.svg)"]
        if self.reasons:
            out += ["", "### Not measured", "", *(f"- ({index}) {reason}" for index, reason in enumerate(self.reasons, 1))]
        ahead = list(self.peers_ahead())
        out += ["", "### Where a peer is ahead of Strongroom", ""]
        out += [f"- {line}" for line in ahead] or [f"Nowhere by more than {NOISE_SHARE:.0%} in this run."]
        return "\n".join(out) + "\n"

    def plot_name(self, latency_ms):
        return f"latency-{latency_ms}ms.svg" if latency_ms else "loopback.svg"

    def plots(self):
        """File names and their SVG."""
        for latency_ms in self.latencies:
            groups = []
            for figure in FIGURES:
                values = {system.key: self.values(latency_ms, system, figure) for system in self.systems}
                values = {key: statistics.mean(found) for key, found in values.items() if found}
                if values:
                    groups.append((f"{self.name(figure)}, {figure[2]} ({figure[3]} is better)".replace("`", ""), values))
            yield self.plot_name(latency_ms), self.svg(groups)
        peaks = {system.key: self.peak_mib(system) for system in self.systems}
        yield "memory.svg", self.svg([("peak RSS over all of it, MiB (less is better)", {key: peak for key, peak in peaks.items() if peak})])

    # Told apart by people who do not see red and green alike (the palette of Okabe and Ito).
    COLOURS = {"strongroom": "#0072b2", "rclone": "#e69f00", "s3fs": "#009e73", "plain": "#999999"}

    def svg(self, groups):
        """Horizontal bars, a group a figure; within a group the longest bar is the largest value."""
        bar, gap, left, width = 14, 12, 150, 420
        systems = [system for system in self.systems if any(system.key in values for _, values in groups)]
        group_height = 18 + bar * len(systems) + gap
        height = gap + group_height * len(groups)
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="11">',
            f'<rect width="720" height="{height}" fill="#ffffff"/>',
        ]
        top = gap
        for title, values in groups:
            out.append(f'<text x="{gap}" y="{top + 11}" font-weight="bold">{escape(title)}</text>')
            largest = max(values.values()) or 1
            for index, system in enumerate(systems):
                y = top + 18 + index * bar
                out.append(f'<text x="{left - 6}" y="{y + 10}" text-anchor="end">{escape(system.title)}</text>')
                if system.key not in values:
                    out.append(f'<text x="{left + 4}" y="{y + 10}" fill="#666666">-</text>')
                    continue
                length = max(1, round(values[system.key] / largest * width))
                out.append(f'<rect x="{left}" y="{y + 1}" width="{length}" height="{bar - 2}" fill="{self.COLOURS[system.key]}"/>')
                out.append(f'<text x="{left + length + 4}" y="{y + 10}">{number(values[system.key])}</text>')
            top += group_height
        return "\n".join([*out, "</svg>", ""])

    BEGIN, END = "<!-- figures: begin (mount-scripts/bench.sh --write-docs) -->", "<!-- figures: end -->"

    def write_docs(self, directory):
        page = directory / "benchmarks.md"
        text = page.read_text()
        if text.count(self.BEGIN) != 1 or text.count(self.END) != 1 or text.index(self.BEGIN) > text.index(self.END):
            raise Failed(f"{page} does not hold the lines '{self.BEGIN}' and '{self.END}', in this order")
        self.reasons = []
        before, rest = text.split(self.BEGIN)
        after = rest.split(self.END)[1]
        plots = directory / "benchmarks"
        plots.mkdir(exist_ok=True)
        # Those of latencies that are not measured any more; other plots there are not ours.
        for old in [*plots.glob("latency-*ms.svg"), plots / "loopback.svg"]:
            old.unlink(missing_ok=True)
        for name, svg in self.plots():
            (plots / name).write_text(svg)
        page.write_text(f"{before}{self.BEGIN}\n\n{self.section()}\n{self.END}{after}")


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])


def markdown(rows):
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|---" * len(rows[0]) + "|"
    for row in rows[1:]:
        yield "| " + " | ".join(row) + " |"
