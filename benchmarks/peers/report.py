"""The markdown tables and the plot, made from the JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
_COLORS = {
    "riccati lanes float32": "#0b5fa5",
    "riccati lanes float64": "#5aa2dc",
    "riccati xla float32": "#12866f",
    "Projector": "#1a1f4f",
    "SQP on HPIPM": "#c8501e",
    "SQP on PIQP": "#e2953f",
    "SQP on OSQP": "#8a5a9e",
    "SQP on Clarabel": "#b04a78",
    "SQP on moreau": "#3c9ab0",
    "CVXPY": "#7a7a7a",
    "CasADi + IPOPT": "#2b2b2b",
}


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _by_programs(method: str) -> bool:
    """Whether it solves quadratic programs one after the other, linearised in Python."""
    return "SQP" in method or method == "CVXPY"


def table(results: dict[str, Any]) -> str:
    """Markdown: a table per set of problems, one of batches, one of gradients."""
    m = results["machine"]
    lines = [
        f"{m['processor']}, {m['cores']} cores, load {m['load_before'][0]:.1f} when it began; commit "
        f"`{results['commit']}`; times in ms. *QP only* is the time inside the solver of quadratic programs, without "
        "linearisation in Python. *Per second* counts solved rows on both cores; that of a method without batches is "
        "that of two perfect processes.",
    ]
    for name, methods in results["sets"].items():
        lines += [
            "",
            f"**{name}**",
            "",
            "| method | rows | solved | cold median | quarter to quarter | p99 | QP only: median | p99 | warm median "
            "| per second | QP only |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for method, r in methods.items():
            c, w, sqp = r["cold"], r.get("warm", {}), _by_programs(method)
            lines.append(
                f"| {method} | {r['rows']} | {c['solved']:.1%} | {_number(c['median'])} | {_number(c['quarter'])} to "
                f"{_number(c['three_quarters'])} | {_number(c['p99'])} | "
                + " | ".join(_number(c[k]) if sqp else "" for k in ("inside_median", "inside_p99"))
                + f" | {_number(w.get('median'))} | {_number(r['per_second'])} | "
                + (_number(r["inside_per_second"]) if sqp else "")
                + " |"
            )
    sizes = sorted({int(b) for methods in results["batches"].values() for r in methods.values() for b in r})
    lines += ["", "**Solved rows per second by batch**", "", "| set, method | " + " | ".join(map(str, sizes)) + " |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for name, methods in results["batches"].items():
        for method, r in methods.items():
            cells = [_number(r[str(b)]["per_second"]) if str(b) in r else "" for b in sizes]
            lines.append(f"| {name}, {method} | " + " | ".join(cells) + " |")
    lines += _gradients(results)
    lines += ["", "**Time to compile**, s: " + "; ".join(f"{k} {_number(v)}" for k, v in results["compile"].items())]
    if results["left_out"]:
        lines += ["", "**Left out**: " + "; ".join(f"{k} ({v})" for k, v in results["left_out"].items())]
    return "\n".join(lines)


def brief(results: dict[str, Any]) -> str:
    """Markdown for the README: what a method does in a second and for a single row, under `physical`."""
    m = results["machine"]
    names = [name for name in results["sets"] if name.endswith("physical")]
    lines = [
        f"{m['processor']}, {m['cores']} cores; rows a second on all of them, a cold single row in ms; of methods "
        "that solve quadratic programs one after the other only the time inside of these counts.",
        "",
        "| method | " + " | ".join(f"{name}: rows/s | median | p99" for name in names) + " |",
        "|---" * (3 * len(names) + 1) + "|",
    ]
    for method in results["sets"][names[0]]:
        cells = []
        for name in names:
            r = results["sets"][name].get(method)
            inside = "inside_" if _by_programs(method) else ""
            keys = f"{inside}median", f"{inside}p99"
            cells += [_number(r[f"{inside}per_second"]), *(_number(r["cold"][k]) for k in keys)] if r else [""] * 3
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gradients(results: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "**Forward and backward.** Ours is a whole nonlinear projection, a peer's is one quadratic program of it "
        f"(a projection needs about {results['subproblems']:.0f}).",
        "",
        "| method | what | batch | differentiated | forward | backward | (forward + backward) / forward | per second "
        "| gradient error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, entries in results["gradients"].items():
        for e in entries:
            f, b = e["forward"], e["backward"]
            share = e.get("solved", 1.0)  # a row whose derivative was given up counts for nothing
            what = "projection" if "riccati" in method else "one QP"
            error = f"{e['gradient_error']:.1e}" if "gradient_error" in e else ""
            lines.append(
                f"| {method} | {what} | {e['batch']} | {share:.1%} | {_number(1e3 * f)} | {_number(1e3 * b)} "
                f"| {1 + b / f:.2f} | "
                f"{_number(share * e['batch'] / (f + b))} | {error} |"
            )
    return lines


def insert(readme: Path, text: str, begin: str = BEGIN, end: str = END) -> bool:
    """Puts the table between the README's markers; False where it has none."""
    content = readme.read_text()
    if begin not in content or end not in content:
        return False
    head, rest = content.split(begin, 1)
    readme.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
    return True


def plot(results: dict[str, Any], path: Path) -> None:
    """Throughput and time per row over batch size, and time per row over horizon."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 5.6), layout="constrained")
    name = next(iter(results["batches"]))
    peers = {k: v for k, v in results["sets"].get(name, {}).items() if "riccati" not in k}
    for method, r in results["batches"][name].items():
        sizes = [int(b) for b in r]
        rate = [r[str(b)]["per_second"] for b in sizes]
        one = method.endswith(", one core")
        style = {
            "ls": "--" if one else "-",
            "marker": "o",
            "ms": 4,
            "color": _COLORS[method.removesuffix(", one core")],
        }
        axes[0].plot(sizes, rate, label=method, **style)
        axes[1].plot(sizes, [1e3 * r[str(b)]["seconds"] for b in sizes], label=method, **style)
    for method, r in peers.items():
        color = _COLORS[method]
        axes[0].axhline(r["inside_per_second"], color=color, lw=1, label=method)
        median = r["cold"]["inside_median"]
        axes[1].plot(
            sizes, [median * -(-b // results["machine"]["cores"]) for b in sizes], color=color, lw=1, label=method
        )
    for method, r in results["horizons"].items():
        steps = sorted(map(int, r))
        values = [r[str(t)]["inside_median"] for t in steps]
        axes[2].plot(steps, values, marker="o", ms=4, color=_COLORS[method], label=method)
    axes[0].set(
        title=f"Solved per second ({name})", xlabel="batch", ylabel="rows per second (peers: inside the solver only)"
    )
    axes[1].set(title="Time for a batch", xlabel="batch", ylabel="ms (peers: inside the solver, two processes)")
    axes[2].set(title="One row over the horizon", xlabel="steps T", ylabel="ms, median (peers: inside the solver)")
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:2]:
        axis.set_xticks(sizes, [str(b) for b in sizes])
    steps = sorted({int(t) for r in results["horizons"].values() for t in r})
    axes[2].set_xticks(steps, [str(t) for t in steps])
    handles = {
        label: h for axis in (axes[0], axes[2]) for h, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
