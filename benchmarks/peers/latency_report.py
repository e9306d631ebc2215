"""The markdown table and the plot of `benchmarks/latency.py`, both made from its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import report

BEGIN, END = "<!-- latency: begin -->", "<!-- latency: end -->"
HEAD = (
    "method", "calls", "iterations", "median", "99 %", "99.9 %", "largest", "QP only: median", "99 %", "late",
    "passes", "near",
)  # fmt: skip
_COLORS = ("#0b5fa5", "#c8501e", "#8a5a9e", "#2b2b2b", "#12866f")


def table(results: dict[str, Any]) -> str:
    """Markdown: a table per set of limits."""
    m, plan = results["machine"], results["plan"]
    low, high = m["load_before"][0], m["load_after"][0]
    lines = [
        f"{m['processor']}, one core of {m['cores']}, load {low:.1f} before and {high:.1f} after; commit "
        f"`{results['commit']}`; T = {plan['steps']}; times of a call in ms. *QP only* is the time inside the solver "
        "of quadratic programs, without linearisation in Python. *Passes*: the limits hold by the independent check; "
        "*near*: and the objective is within 1 % of the best known.",
    ]
    for name, group in results["sets"].items():
        lines += [
            "",
            f"**Limits {name}**",
            "",
            f"| {' | '.join(HEAD)} |",
            "|---" * len(HEAD) + "|",
        ]
        for method, r in group["methods"].items():
            inside = _inside(method, r)
            steps = f"{r['iterations']:.1f}" if r["iterations"] else "–"
            cells = [f"{r['calls']:,}", steps, *(_number(r["latency"][q]) for q in ("median", "p99"))]
            # A quantile needs more calls than its tail is rare.
            cells += [_number(r["latency"]["p999"]) if r["calls"] >= 1000 else "–", _number(r["latency"]["largest"])]
            cells += [_number(inside[q]) if inside else "" for q in ("median", "p99")]
            cells += ["" if "late" not in r else _share(r["late"]), _share(r["passed"]), _share(r["near"])]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        if group["left_out"]:
            lines += ["", "Left out: " + "; ".join(f"{k} ({v})" for k, v in group["left_out"].items())]
    return "\n".join(lines)


def _inside(method: str, r: dict[str, Any]) -> dict[str, float] | None:
    return r["inside"] if "SQP" in method else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _share(value: float) -> str:
    """A few in many never read as none or all."""
    if 0 < value < 5e-4 or 1 - 5e-4 < value < 1:
        return "< 0.1 %" if value < 0.5 else "> 99.9 %"
    return f"{100 * value:.1f} %"


def insert(readme: Path, text: str) -> bool:
    """Puts the table between the README's markers; False where it has none."""
    return report.insert(readme, text, BEGIN, END)


def plot(results: dict[str, Any], path: Path) -> None:
    """How many calls take longer than a time: one mode beside the peers, and six modes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    sets = results["sets"]
    size = (12, 1.2 + 5.2 * len(sets))
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, grid = plt.subplots(len(sets), 2, figsize=size, layout="constrained", **shared)
    fewest = 1.0
    for axes, (name, group) in zip(grid, sets.items(), strict=True):
        fewest = min(fewest, _curves(axes, group["methods"], results["slower"]))
        for axis, what in zip(axes, ("one mode", "six modes"), strict=True):
            axis.set(xscale="log", yscale="log", title=f"{what}; {name}", ylim=(fewest, 1.1))
            axis.axvline(1e3 * results["plan"]["deadline"], color="0.6", lw=0.8, zorder=0)
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("share of calls that take longer")
    for axis in grid[-1]:
        axis.set_xlabel("ms; the vertical line is the deadline")
        if axis.lines[:-1]:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _curves(axes: Any, methods: dict[str, Any], slower: list[float]) -> float:
    """Draws them and returns the smallest share there is."""
    colors, fewest = iter(_COLORS[1:]), 1.0
    for method, r in methods.items():
        color = _COLORS[0] if "peer" not in r else next(colors)
        shown = [(s, k) for k, s in enumerate(slower) if s >= 1 / r["calls"]]
        fewest = min(fewest, shown[-1][0])
        style = {"color": color, "alpha": 1.0 if r["warm"] else 0.5, "lw": 1.8}
        axis = axes[0 if r["modes"] == 1 else 1]
        dash = "--" if r["deadline"] is not None else "-"
        axis.plot([r["curve"][k] for _, k in shown], [s for s, _ in shown], label=method, ls=dash, **style)
        if _inside(method, r):
            style |= {"lw": 1.0, "ls": ":", "label": f"{method}: QP only"}
            axis.plot([r["inside_curve"][k] for _, k in shown], [s for s, _ in shown], **style)
    return fewest
