"""The load: pgbench, and clients that do nothing."""
import collections, glob, os, re, socket, struct, subprocess, sys

from servers import BIN

TICK = os.sysconf("SC_CLK_TCK")
# protocol: simple, extended or prepared. work: select (one row by its key), tpcb (five statements in a transaction that writes) or
# storm (a connection for each select).
Cell = collections.namedtuple("Cell", "protocol work clients tls")
Figures = collections.namedtuple("Figures", "transactions p50_ms p99_ms cpu_s")

CELLS = [
    Cell("simple", "select", 1, False),
    Cell("simple", "select", 50, False),
    Cell("extended", "select", 50, False),
    Cell("prepared", "select", 50, False),
    Cell("simple", "tpcb", 50, False),
    Cell("simple", "select", 50, True),
    Cell("simple", "storm", 50, False),
    Cell("simple", "storm", 50, True),
    Cell("simple", "select", 1000, False),
    Cell("prepared", "select", 1000, False),
    Cell("simple", "select", 5000, False),
]


def named(cell):
    return f"{cell.work}, {cell.protocol}, {cell.clients} client{'s' * (cell.clients > 1)}{', TLS' * cell.tls}"


def suits(cell, way):
    return (cell.clients <= 1000 or way.pools) and (cell.protocol != "prepared" or way.statements)


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def lasting(cell, seconds):
    """pgbench counts the time in which its clients connect."""
    return seconds if cell.clients < 1000 else max(seconds, 10)


def measure(root, running, cell, seconds):
    """One run of pgbench; `cpu_s` is what the proxy needed for 10,000 transactions."""
    prefix = os.path.join(root, "latency")
    for old in glob.glob(prefix + "*"):
        os.unlink(old)
    command = [f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(running.port), "-U", "postgres", "-n", "-M", cell.protocol,
               "-c", str(cell.clients), "-j", str(min(2, cell.clients)), "-T", str(seconds), "-l", "--log-prefix", prefix]
    command += [] if cell.work == "tpcb" else ["-S"]
    command += ["-C"] if cell.work == "storm" else []
    before = cpu(running.pid) if running.pid else 0
    environment = {**os.environ, "PGSSLMODE": "require" if cell.tls else "disable"}
    out = subprocess.run([*command, "postgres"], capture_output=True, text=True, env=environment)
    if out.returncode:
        sys.exit(f"{named(cell)}: {out.stderr[-2000:]}")
    used = cpu(running.pid) - before if running.pid else 0
    latencies = sorted(int(line.split()[2]) for name in glob.glob(prefix + "*") for line in open(name))
    if not latencies:
        sys.exit(f"{named(cell)}: no transaction ended within {seconds} s")
    at = lambda share: latencies[int(len(latencies) * share)] / 1000
    # Without the time for the first connections.
    rate = float(re.search(r"^tps = ([0-9.]+)", out.stdout, re.MULTILINE).group(1))
    return Figures(rate, at(0.5), at(0.99), used / len(latencies) * 10_000)


def idle_kib(running, count):
    """What the proxy needs for one of `count` clients that have logged in and are silent."""
    held, sockets = memory_kib(running.pid), []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", running.port))
        body = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        s.sendall(struct.pack("!I", len(body) + 4) + body)
        data = b""
        while not data.endswith(b"Z\0\0\0\x05I"):
            more = s.recv(65536)
            if not more:
                sys.exit(f"an idle client was sent away: {data!r}")
            data += more
        sockets.append(s)
    needed = (memory_kib(running.pid) - held) / count
    for s in sockets:
        s.close()
    return needed
