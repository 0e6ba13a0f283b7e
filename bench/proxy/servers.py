"""What is measured: PostgreSQL, and the ways to it."""
import collections, glob, os, shutil, signal, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
BIN = os.environ.get("BELLWETHER_TEST_PG_BIN") or max(glob.glob("/usr/lib/postgresql/*/bin"))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "bellwether")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(CACHE, "target"))
# Enough for a thousand clients without a pool.
MAX_CONNECTIONS = 1400

# pools: whether it has fewer servers than clients. statements: whether clients may prepare statements.
Way = collections.namedtuple("Way", "name pools statements begin")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on port {port}")


def as_postgres(*command, **options):
    return subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, **options)


class Server:
    """PostgreSQL with pgbench's tables, which answers as fast as it can: nothing is synced."""

    def __init__(self, root):
        self.dir, self.port = os.path.join(root, "data"), free_port()
        quiet = dict(stdout=subprocess.DEVNULL)
        as_postgres(f"{BIN}/initdb", "-D", self.dir, "-A", "trust", "-U", "postgres", "--no-sync", **quiet)
        certificate(self.dir, "server")
        options = (f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} -c fsync=off -c ssl=on "
                   f"-c max_connections={MAX_CONNECTIONS} -c shared_buffers=128MB -c synchronous_commit=off")
        as_postgres(f"{BIN}/pg_ctl", "-D", self.dir, "-w", "-l", os.path.join(root, "pg.log"), "-o", options, "start", **quiet)
        subprocess.run([f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-i", "-s", "10", "-q", "postgres"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        as_postgres(f"{BIN}/pg_ctl", "-D", self.dir, "-m", "immediate", "stop", stdout=subprocess.DEVNULL)


def certificate(directory, name):
    key, cert = os.path.join(directory, f"{name}.key"), os.path.join(directory, f"{name}.crt")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    for file in (key, cert):
        shutil.chown(file, "postgres", "postgres")
        os.chmod(file, 0o600)
    return key, cert


class Running:
    """A way that is open: its port, and its process if it has one."""

    def __init__(self, port, process=None):
        self.port, self.process = port, process
        wait_for(port)

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


def start(command, log, **environment):
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **environment})


def later_pgbouncer():
    """The one of the next Debian, with its own libraries, since it is the first that keeps prepared statements."""
    root = os.path.join(CACHE, "pgbouncer-trixie")
    program = os.path.join(root, "usr/sbin/pgbouncer")
    if not os.path.exists(program):
        print("bench/proxy: taking a later PgBouncer", file=sys.stderr)
        libraries = "libc6 libevent-2.1-7t64 libssl3t64 libcares2 libsystemd0 libpam0g libcap2 zlib1g libzstd1 libaudit1 libcap-ng0 libldap2 libsasl2-2"
        subprocess.run([os.path.join(PROJECT, "scripts/other-debian"), "trixie", root, "pgbouncer", *libraries.split()], check=True)
    # It runs as another user, who cannot look below /root.
    copy = "/var/cache/bellwether/pgbouncer-trixie"
    if not os.path.exists(copy):
        shutil.copytree(root, copy, symlinks=True)
    return [f"{copy}/usr/lib64/ld-linux-x86-64.so.2", "--library-path", f"{copy}/usr/lib/x86_64-linux-gnu", f"{copy}/usr/sbin/pgbouncer"]


def version_of(command):
    out = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
    return ".".join(out.split()[1].split(".")[:2])


def ways(root, server, pool):
    """Each of them by itself, one thread each."""
    log = open(os.path.join(root, "proxies.log"), "w")

    def ours(mode):
        def begin(tls):
            port = free_port()
            command = [f"{TARGET}/release/examples/alone", f"127.0.0.1:{port}", mode, f"127.0.0.1:{server.port}", str(pool)]
            return Running(port, start(command, log, **({"PROXY_TLS": "1"} if tls else {})))
        return begin

    def haproxy(tls):
        port, file = free_port(), os.path.join(root, "haproxy.cfg")
        with open(file, "w") as f:
            f.write("global\n    maxconn 4000\n    nbthread 1\ndefaults\n    mode tcp\n    timeout connect 4s\n    timeout client 30m\n"
                    f"    timeout server 30m\nlisten pg\n    bind 127.0.0.1:{port}\n    server one 127.0.0.1:{server.port}\n")
        return Running(port, start(["haproxy", "-db", "-f", file], log))

    def pgbouncer(command):
        def begin(tls):
            port = free_port()
            file, users = os.path.join(root, f"pgbouncer-{port}.ini"), os.path.join(root, "userlist.txt")
            with open(users, "w") as f:
                f.write('"postgres" ""\n')
            with open(file, "w") as f:
                f.write(f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n"
                        f"auth_type=trust\nauth_file={users}\npool_mode=transaction\ndefault_pool_size={pool}\nmax_client_conn=20000\n"
                        f"unix_socket_dir=\nlogfile={root}/pgbouncer.log\nignore_startup_parameters=extra_float_digits\n"
                        "server_tls_sslmode=disable\n")
                if tls:
                    key, cert = certificate(root, "pgbouncer")
                    f.write(f"client_tls_sslmode=require\nclient_tls_key_file={key}\nclient_tls_cert_file={cert}\n")
            shutil.chown(file, "postgres"), shutil.chown(users, "postgres")
            return Running(port, start(["setpriv", "--reuid=postgres", "--clear-groups", *command, file], log))
        return begin

    found = [
        Way("direct", False, True, lambda tls: Running(server.port)),
        Way("Bellwether, tcp", False, True, ours("tcp")),
        Way("HAProxy " + haproxy_version() + ", tcp", False, True, haproxy),
        Way("Bellwether, transaction", True, True, ours("transaction")),
        Way("Bellwether, split", True, True, ours("split")),
    ]
    for command in (["pgbouncer"], later_pgbouncer()):
        version = version_of(command)
        keeps = tuple(int(part) for part in version.split(".")) >= (1, 21)
        found.append(Way(f"PgBouncer {version}, transaction", True, keeps, pgbouncer(command)))
    return found


def haproxy_version():
    out = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
    return ".".join(out.split()[2].split(".")[:2])
