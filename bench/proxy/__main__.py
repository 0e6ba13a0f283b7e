"""What the proxy costs, beside PgBouncer, HAProxy and no proxy at all, in one run on one machine.

Needs: cargo build --release -p bellwether-proxy --example alone; postgresql, pgbouncer, haproxy, openssl. Run as root, which starts
PostgreSQL as the user postgres. Prints a table in Markdown, and with --out writes it beside the figures of all rounds (JSON) and a
picture (SVG). Nothing here is part of the product.
"""
import argparse, os, resource, shutil, sys, tempfile

import report
from load import CELLS, idle_kib, lasting, measure, named, suits
from servers import Server, ways


def arguments():
    parser = argparse.ArgumentParser(prog="bench/proxy", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of one run (5)")
    parser.add_argument("--rounds", type=int, default=3, help="each way in turn, as often; medians are told (3)")
    parser.add_argument("--pool", type=int, default=20, help="servers in a pool (20)")
    parser.add_argument("--idle", type=int, default=10_000, help="clients that do nothing (10000; 0: not measured)")
    parser.add_argument("--ways", default="", help="parts of names, with commas between: PgBouncer,transaction")
    parser.add_argument("--cells", default="", help="parts of names with semicolons between: 'select, simple, 50;TLS'")
    parser.add_argument("--out", help="directory for proxy.md, proxy.json and proxy.svg")
    return parser.parse_args()


def wanted(text, separator, name):
    return not text or any(part.strip() in name for part in text.split(separator))


def run(given, root, server):
    cells = [cell for cell in CELLS if wanted(given.cells, ";", named(cell))]
    chosen = [way for way in ways(root, server, given.pool) if wanted(given.ways, ",", way.name)]
    opened, results, idle = {}, {}, {}
    try:
        for tls in sorted({cell.tls for cell in cells}):
            opened.update({(way.name, tls): way.begin(tls) for way in chosen})
        for cell in cells:
            suited = [way for way in chosen if suits(cell, way)]
            for way in suited:
                measure(root, opened[way.name, cell.tls], cell, lasting(cell, 1))
            for _ in range(given.rounds):
                for way in suited:
                    figures = measure(root, opened[way.name, cell.tls], cell, lasting(cell, given.seconds))
                    results.setdefault((cell, way.name), []).append(figures)
            done = {key: value for key, value in results.items() if key[0] == cell}
            print(report.table(done, {}), flush=True)
        for way in chosen:
            if given.idle and way.pools:
                fresh = way.begin(False)
                idle[way.name] = (idle_kib(fresh, given.idle), given.idle)
                fresh.stop()
    finally:
        for running in opened.values():
            running.stop()
    # As the ways are listed, below each kind of work.
    order = {way.name: at for at, way in enumerate(chosen)}
    return dict(sorted(results.items(), key=lambda item: (cells.index(item[0][0]), order[item[0][1]]))), idle


def main():
    given = arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    root = tempfile.mkdtemp(prefix="bw-bench-proxy-")
    os.chmod(root, 0o777)
    server = Server(root)
    try:
        results, idle = run(given, root, server)
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)
    text = report.table(results, idle)
    print("\n" + text)
    if given.out:
        os.makedirs(given.out, exist_ok=True)
        for name, content in (("md", text + "\n"), ("json", report.as_json(results, idle, given)), ("svg", report.picture(results))):
            with open(os.path.join(given.out, f"proxy.{name}"), "w") as f:
                f.write(content)
        print(f"bench/proxy: written to {given.out}", file=sys.stderr)


main()
