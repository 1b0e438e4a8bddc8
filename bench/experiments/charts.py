# SPDX-License-Identifier: Apache-2.0
"""Draws the charts that an experiment asks for into one picture, as PNG and as SVG."""

MISSING = "matplotlib is not installed (pip install -r bench/experiments/requirements.txt): no pictures"
WIDTH, HEIGHT = 6.0, 4.2  # inches of one chart
STACK_COLOURS = ("#2f81f7", "#d4a72c", "#8250df")
MARK_STYLES = ("--", ":", "-.")
GRAPHS, NO_GRAPHS = "graphs", "no graphs"  # in labels


def matches(row, where):
    """Whether the row has these values; a list names several that will do."""
    return all(row.get(key) in (value if isinstance(value, list) else [value])
               for key, value in where.items())


def label_of(row, keys):
    """The values of a row that tell a series or a bar from others."""
    texts = {"graph": lambda value: GRAPHS if value else NO_GRAPHS,
             "ep": lambda value: f"EP{value}", "tp": lambda value: f"TP{value}",
             "tokens": lambda value: f"{value} tokens", "topk": lambda value: f"top-{value}",
             "groups": lambda value: f"G = {value}",
             "link_gbs": lambda value: f"{value:g} GB/s EMULATED"}
    return ", ".join(texts.get(key, str)(row.get(key)) for key in keys)


def series_of(rows, chart):
    """{label: [(x, y), ...]}, each sorted by x; with `relative`, y over the least y of its series."""
    series = {}
    for row in rows:
        x, y = row.get(chart["x"]), row.get(chart["y"])
        if matches(row, chart.get("where", {})) and x is not None and y is not None:
            points = series.setdefault(label_of(row, chart["series"]), {})
            points[x] = min(y, points.get(x, y))
    # By label, so that a series has one colour in all charts of a picture.
    lines = {label: sorted(series[label].items()) for label in sorted(series)}
    if chart.get("relative"):
        lines = {label: [(x, y / min(value for _, value in points)) for x, y in points]
                 for label, points in lines.items()}
    return lines


def with_graphs_apart(chart, rows):
    """The chart, telling calls from graphs and launched ones apart where there are both."""
    key = "x" if chart["kind"] == "bars" else "series"
    if "graph" in chart[key] or len({row["graph"] for row in rows if "graph" in row}) < 2:
        return chart
    return {**chart, key: [*chart[key], "graph"]}


def style_of(label, colours):
    """How a series is drawn: in the colour of what it is of, and dashed if its calls are launched anew."""
    parts = label.split(", ")
    of = ", ".join(part for part in parts if part not in (GRAPHS, NO_GRAPHS))
    colour = colours.setdefault(of, f"C{len(colours)}")  # matplotlib's next one
    return {"color": colour, "linestyle": "--" if NO_GRAPHS in parts else "-"}


def draw_lines(axes, rows, chart):
    colours = {}
    for label, points in series_of(rows, chart).items():
        axes.plot(*zip(*points), marker="o", markersize=4, label=label, **style_of(label, colours))
    if chart.get("log_x"):
        axes.set_xscale("log", base=2)
        ticks = sorted({x for points in series_of(rows, chart).values() for x, _ in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def draw_bars(axes, rows, chart):
    """A bar a row, or a stack where `y` lists several keys."""
    stack = chart["y"] if isinstance(chart["y"], list) else [chart["y"]]
    chosen = [row for row in rows if matches(row, chart.get("where", {}))
              and all(row.get(key) is not None for key in stack)]
    labels = [label_of(row, chart["x"]) for row in chosen]
    bottom = [0.0] * len(chosen)
    for key, colour in zip(stack, STACK_COLOURS):
        values = [row[key] for row in chosen]
        axes.barh(range(len(chosen)), values, left=bottom, color=colour,
                  label=chart.get("names", {}).get(key, key) if len(stack) > 1 else None)
        bottom = [a + b for a, b in zip(bottom, values)]
    axes.set_yticks(range(len(chosen)), labels, fontsize=7)
    axes.invert_yaxis()


def draw(experiment, rows, folder, name):
    """Writes name.png and name.svg; False, and nothing written, without matplotlib or rows."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    charts = [with_graphs_apart(chart, rows) for chart in experiment["charts"]]
    most_bars = max((sum(matches(row, chart.get("where", {})) for row in rows)
                     for chart in charts if chart["kind"] == "bars"), default=0)
    figure, all_axes = pyplot.subplots(1, len(charts), squeeze=False, layout="constrained",
                                       figsize=(WIDTH * len(charts), max(HEIGHT, 0.2 * most_bars)))
    for axes, chart in zip(all_axes[0], charts):
        (draw_bars if chart["kind"] == "bars" else draw_lines)(axes, rows, chart)
        for mark, style in zip(chart.get("marks", []), MARK_STYLES):
            line = axes.axvline if mark["axis"] == "x" else axes.axhline
            line(mark["at"], linestyle=style, linewidth=1, color="#57606a", label=mark["label"])
        axes.set_title(chart["title"], fontsize=10)
        axes.set_xlabel(chart["x_label"])
        axes.set_ylabel(chart.get("y_label", ""))
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.suptitle(experiment["title"] + experiment.get("picture_note", ""), fontsize=11)
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"{name}.{suffix}", dpi=120)
    pyplot.close(figure)
    return True
