"""The figures as a table in Markdown, as JSON and as a picture."""
import html, json, os, platform, statistics

from load import Figures, named

COLOURS = {"Bellwether, tcp": "#8bb8e8", "Bellwether, transaction": "#1f6fb8", "Bellwether, split": "#12406b"}


def median(rounds):
    return Figures(*(statistics.median(values) for values in zip(*rounds)))


def table(results, idle):
    """`results`: from (cell, name of a way) to the figures of each round."""
    lines = ["| work | way | transactions/s | p50 ms | p99 ms | proxy CPU s / 10,000 |", "|---|---|---|---|---|---|"]
    for (cell, way), rounds in results.items():
        all_of = median(rounds)
        cpu = "" if way == "direct" else f"{all_of.cpu_s:.3f}"
        lines.append(f"| {named(cell)} | {way} | {all_of.transactions:,.0f} | {all_of.p50_ms:.2f} | {all_of.p99_ms:.2f} | {cpu} |")
    if idle:
        lines += ["", "| way | KiB per idle client | clients |", "|---|---|---|"]
        lines += [f"| {way} | {kib:.1f} | {count:,} |" for way, (kib, count) in idle.items()]
    return "\n".join(lines)


def as_json(results, idle, given):
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]}
    cells = [{"work": named(cell), "way": way, "rounds": [figures._asdict() for figures in rounds]}
             for (cell, way), rounds in results.items()]
    idle = {way: {"kib_per_client": kib, "clients": count} for way, (kib, count) in idle.items()}
    return json.dumps({"machine": machine, "given": vars(given), "cells": cells, "idle": idle}, indent=1)


def picture(results):
    """Bars of the CPU that each proxy needs; the longest of each kind of work is as long as that of another. Shorter is better."""
    bars = [(cell, way, median(rounds).cpu_s) for (cell, way), rounds in results.items() if way != "direct"]
    y, cell_before, parts = 46, None, []
    for cell, way, cpu in bars:
        if cell != cell_before:
            y += 12
            parts.append(f'<text x="10" y="{y}" font-weight="bold">{html.escape(named(cell))}</text>')
            y, cell_before = y + 8, cell
            longest = max(other for kind, _, other in bars if kind == cell)
        width = 380 * cpu / longest
        colour = COLOURS.get(way, "#b9b2a6")
        parts.append(f'<text x="20" y="{y + 11}">{html.escape(way)}</text>'
                     f'<rect x="220" y="{y}" width="{width:.1f}" height="13" fill="{colour}"/>'
                     f'<text x="{226 + width:.1f}" y="{y + 11}">{cpu:.3f}</text>')
        y += 17
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {y + 10}" font-family="sans-serif" font-size="11">\n'
            f'<rect width="680" height="{y + 10}" fill="#ffffff"/>\n'
            '<text x="10" y="24" font-size="15">CPU seconds of the proxy for 10,000 transactions</text>\n'
            + "\n".join(parts) + "\n</svg>\n")
