"""The figures of compare.py as a table and as a picture."""

import statistics
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

NAMES = {
    "awsnet": "awsnet",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "pytorch": "PyTorch",
    "tract": "tract",
    "candle": "candle",
}

Case = dict[str, Any]


def title(case: Case) -> str:
    """Name a case in a line."""
    units = "no AWS-Units" if case["aws"] == "none" else f"{case['aws']} AWS-Units"
    return f"{case['arch']} {case['size']}x{case['size']}, {units}, batch {case['batch']}"


def medians(figures: dict[str, Any], name: str = "median_ms") -> list[float]:
    """Give a library's figure of each round; empty where it failed."""
    return [row[name] for row in figures.get("rounds", []) if name in row]


def markdown(results: dict[str, Any], picture_name: str) -> str:
    """Write the whole report."""
    machine, cases = results["machine"], results["cases"]
    versions = machine["versions"]
    peers = [peer for peer in NAMES if any(peer in case["peers"] for case in cases)]
    threads = sorted({case["threads"] for case in cases})
    dtypes = sorted({case["dtype"] for case in cases})
    rounds = sorted({len(figures["rounds"]) for _, figures in _measured(cases)})
    differences = [figures["difference"] for _, figures in _measured(cases)]
    installed = ", ".join(f"{NAMES[peer]} {versions[peer]}" for peer in peers)
    return "\n".join(
        [
            f"# {machine['date']}: awsnet on the CPU, beside other libraries",
            "",
            f"{machine['cpu']}, {machine['cores']} processors, {machine['system']}. {installed}; "
            f"rustc {versions['rustc']}, Python {versions['python']}.",
            "",
            f"Networks of `awsnet init`, weights stored as {_list(dtypes)}, computed in f32 with {_list(threads)} "
            f"threads. Every library in a process of its own, in turn, {_list(rounds)} rounds; "
            "the median of the rounds' medians, and the least and the most of them. Outputs differ by at most "
            f"{max(differences, default=0):.1e} of the largest logit. Made by `bench-compare/run`; its README.md says "
            "how to read this.",
            "",
            f"![awsnet beside other libraries]({picture_name})",
            "",
            "## Milliseconds a run",
            "",
            *_latency(cases, peers),
            "",
            "## What AWS-Units cost",
            "",
            "The time with them over the time without: the median of the rounds' ratios, and the least and the most. "
            "awsnet runs both networks in one process, a run or a few of each in turn.",
            "",
            *_unit_cost(cases, peers),
            "",
            "## Start-up and memory",
            "",
            "Milliseconds from the file to the first result, and the process's peak MiB, of which what is there "
            "before a network is loaded (Python and its imports) in brackets.",
            "",
            *_start_up(cases, peers),
            *_failures(cases),
            "",
        ]
    )


def _list(values: list[Any]) -> str:
    return " and ".join(map(str, values)) or "no"


def _measured(cases: list[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
    for case in cases:
        for peer, figures in case["peers"].items():
            if medians(figures):
                yield peer, figures


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _cells(case: Case, peers: list[str], write: Callable[[dict[str, Any]], str]) -> list[str]:
    """Write a cell a library; `failed` where it has no figures, a dash where it was not asked."""
    cells = []
    for peer in peers:
        figures = case["peers"].get(peer)
        cells.append("-" if figures is None else write(figures) if medians(figures) else "failed")
    return cells


def _latency(cases: list[Case], peers: list[str]) -> list[str]:
    rows = []
    for case in cases:
        ratio = "-"
        best = _best_peer(case)
        own = medians(case["peers"].get("awsnet", {}))
        if best and own:
            ratio = f"**{statistics.median(own) / best:.2f}**"
        rows.append([title(case), *_cells(case, peers, _spread), ratio])
    return _table(["network", *(NAMES[peer] for peer in peers), "awsnet / best of the others"], rows)


def _spread(figures: dict[str, Any]) -> str:
    values = medians(figures)
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _best_peer(case: Case) -> float | None:
    others = [medians(figures) for peer, figures in case["peers"].items() if peer != "awsnet"]
    return min((statistics.median(values) for values in others if values), default=None)


def _unit_cost(cases: list[Case], peers: list[str]) -> list[str]:
    def network(case: Case) -> Case:
        return {name: value for name, value in case.items() if name not in ("aws", "peers")}

    rows = []
    for case in cases:
        without = [other for other in cases if other["aws"] == "none" and network(other) == network(case)]
        if case["aws"] == "none" or not without:
            continue
        cells = []
        for peer in peers:
            rounds = zip(*(medians(side["peers"].get(peer, {})) for side in (case, without[0])), strict=False)
            in_turns = medians(case["peers"].get(peer, {}), "units_ratio")
            ratios = sorted(in_turns or [one / other for one, other in rounds])
            cells.append(f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})" if ratios else "-")
        rows.append([title(case), *cells])
    return _table(["network", *(NAMES[peer] for peer in peers)], rows)


def _start_up(cases: list[Case], peers: list[str]) -> list[str]:
    def write(figures: dict[str, Any]) -> str:
        start, peak = statistics.median(medians(figures, "start_ms")), max(medians(figures, "peak_mib"))
        imports = medians(figures, "import_mib")
        return f"{start:.0f} ms, {peak:.0f} MiB" + (f" ({max(imports):.0f})" if imports else "")

    rows = [[title(case), *_cells(case, peers, write)] for case in cases]
    return _table(["network", *(NAMES[peer] for peer in peers)], rows)


def _failures(cases: list[Case]) -> list[str]:
    lines = [
        f"- {NAMES[peer]}, {title(case)}: {figures['failed']}"
        for case in cases
        for peer, figures in case["peers"].items()
        if "failed" in figures
    ]
    return ["", "## Failed", "", *lines] if lines else []


WIDTH, LEFT, RIGHT, BAR, GAP, HEADING = 760, 130, 110, 16, 5, 34
MOST = 3.0
"""Bars end here, in multiples of the best of the others; what is longer is cut and keeps its number."""


def picture(results: dict[str, Any]) -> str:
    """Draw a panel a case: a bar a library, relative to the best of the others, with the spread over the rounds."""
    parts: list[str] = []
    y = 44
    scale = (WIDTH - LEFT - RIGHT) / MOST
    for case in results["cases"]:
        best = _best_peer(case)
        if best is None:
            continue
        parts.append(f'<text x="8" y="{y + 22}" class="case">{escape(title(case))}</text>')
        top = y + HEADING - 4
        y += HEADING
        for peer, name in NAMES.items():
            figures = case["peers"].get(peer)
            if figures is None:
                continue
            values = medians(figures)
            middle = y + BAR / 2 + 4
            parts.append(f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>')
            if values:
                parts += _bar(peer, y, statistics.median(values), values, best, scale)
            else:
                parts.append(f'<text x="{LEFT + 6}" y="{middle}" class="failed">failed</text>')
            y += BAR + GAP
        parts.append(f'<line x1="{LEFT + scale}" y1="{top}" x2="{LEFT + scale}" y2="{y}" class="one"/>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 12}" '
        f'viewBox="0 0 {WIDTH} {y + 12}" role="img" aria-label="Time a run of awsnet beside other libraries">\n'
        "<style>text { font: 12px sans-serif; fill: #222 } .head { font-size: 15px; font-weight: bold } "
        ".case { font-weight: bold } .awsnet { fill: #c2410c } .other { fill: #94a3b8 } .failed { fill: #777 } "
        ".one { stroke: #222; stroke-dasharray: 3 3 } .spread { stroke: #222; stroke-width: 1.5 }</style>\n"
        '<rect width="100%" height="100%" fill="white"/>\n'
        '<text x="8" y="22" class="head">Time a run; dashed: the best of the others; shorter is better</text>\n'
        f'<text x="8" y="40">{escape(results["machine"]["cpu"])}, {results["machine"]["date"]}</text>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def _bar(peer: str, y: float, median: float, values: list[float], best: float, scale: float) -> list[str]:
    length = min(median / best, MOST) * scale
    shade = "awsnet" if peer == "awsnet" else "other"
    parts = [f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" class="{shade}"/>']
    least, most = (LEFT + min(value / best, MOST) * scale for value in (min(values), max(values)))
    if median / best < MOST:
        middle = y + BAR / 2
        parts.append(f'<line x1="{least:.1f}" y1="{middle}" x2="{most:.1f}" y2="{middle}" class="spread"/>')
    else:  # cut
        x = LEFT + length - 14
        parts.append(f'<path d="M{x} {y + BAR} l6 -{BAR} h5 l-6 {BAR} z" fill="white"/>')
    x = max(LEFT + length, most) + 6
    parts.append(f'<text x="{x:.1f}" y="{y + BAR / 2 + 4}">{median:.2f} ms ({median / best:.2f})</text>')
    return parts
