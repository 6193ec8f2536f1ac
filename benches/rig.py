"""What the benchmarks beside this file share: the relay, the sink and the generator as processes, and figures about them."""
import asyncio, json, os, pathlib, shutil, socket, statistics, subprocess, tempfile, threading, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "target" / "test-peers"
POSTRIDER = pathlib.Path(os.environ.get("POSTRIDER", ROOT / "target" / "release" / "postrider"))
DOMAIN = "sink.example"
SENDER = "load@load.example"
MIB = 1 << 20

# Limits stand where they cannot be met: what is measured is the engine.
CONFIG = """\
[server]
hostname = "relay.bench.example"
data_dir = "{dir}/data"

[[listener]]
address = "127.0.0.1:{port}"
tls = "none"
auth = "none"
trusted = ["127.0.0.0/8"]
trusted_client = "bench"

[[client]]
name = "bench"
channels = ["email"]
senders = ["load.example"]

[admin]
address = "127.0.0.1:{admin}"

[limits]
messages_per_connection = 1000000
client_messages = 20000000
client_bytes = "1TiB"
queue_messages = 20000000
queue_bytes = "1TiB"
"""


def say(text=""):
    print(text, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, within, condition, every=0.02):
    """Waits for a true answer and returns it."""
    deadline = time.monotonic() + within
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {within} s: {what}")
        time.sleep(every)
    return answer


def answers(port):
    """True if an SMTP server greets on this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.settimeout(5)
            return s.recv(512).startswith(b"220")
    except OSError:
        return False


def build():
    """Builds the binary, unless the environment names another one (POSTRIDER=FILE)."""
    if "POSTRIDER" not in os.environ:
        say("== cargo build --release")
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)


def machine(directory):
    """Prints what the figures depend on, the bare disk among it; the median of a small write with its sync, in ms."""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown CPU")
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) >> 20
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True).stdout.strip()
    say(f"== {os.cpu_count()} × {model}, {memory} GiB, Linux {os.uname().release}, {kind}; load {os.getloadavg()[0]:.1f}")
    small, large = bare_disk(directory, 4096, 200), bare_disk(directory, 4 << 20, 20)
    say(f"   bare disk, write and fdatasync: 4 KiB {small:.2f} ms, 4 MiB {large:.1f} ms (medians)")
    return small


def bare_disk(directory, size, times):
    """The median time of an overwriting write and its fdatasync, in ms."""
    data, took = os.urandom(size), []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        for _ in range(times):
            started = time.perf_counter()
            os.pwrite(file.fileno(), data, 0)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


def spread(values, form="{:,.0f}"):
    """`median (least-most)`."""
    shown = form.format(statistics.median(values))
    return shown if len(values) == 1 else f"{shown} ({form.format(min(values))}-{form.format(max(values))})"


def percentile(values, share):
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(len(ordered) * share + 0.999999) - 1))]


def table(heads, rows):
    """Prints rows of text under heads; the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        say("    " + "  ".join(cells))


def need_space(directory, needed):
    """Ends here if the directory's disk has not so many bytes to spare."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise SystemExit(f"{directory}: {free / 2**30:.1f} GiB free, {needed / 2**30:.1f} GiB wanted (--dir DIRECTORY)")


def disk_bytes(directory):
    """Bytes that the files below a directory take."""
    return int(subprocess.run(["du", "-s", "-B1", directory], capture_output=True, text=True).stdout.split()[0])


def unpacked(name, packages):
    """Debian's packages, unpacked under one root and not installed."""
    root, stamp = PEERS / name, PEERS / f"{name}.stamp"
    if not stamp.exists():
        say(f"== unpacking Debian's {name}")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            download = ["apt-get", "download", "-q", *packages]
            if subprocess.run(download, cwd=scratch, stderr=subprocess.DEVNULL).returncode != 0:
                subprocess.run(["apt-get", "update", "-q"], check=True)
                subprocess.run(download, cwd=scratch, check=True)
            for package in pathlib.Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, root], check=True)
        stamp.touch()
    return root


def library_path(root):
    return ":".join(str(path) for path in [root / "usr/lib/postfix", *root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")])


class Processes:
    """CPU time and memory of a process and all it has started."""

    TICK = os.sysconf("SC_CLK_TCK")

    def __init__(self, pid):
        self.pid, self.peak_kib, self._stop = pid, 0, threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def tree(self):
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := self._stat(int(entry))):
                children.setdefault(int(stat[1]), []).append(int(entry))
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return found

    def cpu_seconds(self):
        """User and system time, that of children that have ended included: their parent has waited for them."""
        ticks = sum(sum(map(int, stat[11:15])) for pid in self.tree() if (stat := self._stat(pid)))
        return ticks / self.TICK

    def stop(self):
        self._stop.set()
        self._watch.join()
        return self.peak_kib

    def _sample(self):
        while not self._stop.wait(0.5):
            self.peak_kib = max(self.peak_kib, sum(self._pss_kib(pid) for pid in self.tree()))

    @staticmethod
    def _stat(pid):
        """The fields of /proc/PID/stat from the third on: state, ppid, ...; utime is the 12th of them."""
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rpartition(")")[2].split()
        except OSError:
            return None

    @staticmethod
    def _pss_kib(pid):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                return next((int(line.split()[1]) for line in f if line.startswith("Pss:")), 0)
        except OSError:
            return 0


class Counting:
    """Messages that have come so far, when the last of them did, and the wait for more."""

    def __init__(self):
        self.messages, self.at, self._changed = 0, time.monotonic(), threading.Condition()

    def _came(self, messages):
        with self._changed:
            if messages > self.messages:
                self.messages, self.at = messages, time.monotonic()
                self._changed.notify_all()

    def reached(self, count, within):
        """Waits until `count` messages have come in all; when the last of them did."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.messages >= count, within):
                raise SystemExit(f"the sink has {self.messages} of {count} messages after {within} s")
            return self.at


class Sink(Counting):
    """`postrider sink`, counting mails, or the parts of texts (`only="smpp"`, which is CMPP's gateway as well); tells when a
    count was reached. A port makes it the successor of another sink."""

    def __init__(self, *options, address="127.0.0.1", port=0, only="smtp"):
        command = [POSTRIDER, "sink", "--only", only, f"--{only}", f"{address}:{port}", "--json", "--every", "20ms", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(json.loads(self.process.stdout.readline())["listening"][only].rpartition(":")[2])
        self._only = only
        super().__init__()
        self.counts = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            counts = json.loads(line)["counts"][self._only]
            self.counts = counts
            self._came(counts["messages" if self._only == "smtp" else "parts"])

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self._reader.join()


class DelayedSink(Counting):
    """A mail sink in this process that gives each reply so many seconds late, as a far one would; offers these extensions only.

    For rates that a round trip limits: it is too slow for others.
    """

    def __init__(self, delay, keywords):
        self.delay, self.keywords = delay, keywords
        super().__init__()
        self._loop, started = asyncio.new_event_loop(), threading.Event()

        def run():
            asyncio.set_event_loop(self._loop)
            server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24))
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            self._loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        started.wait()

    async def _serve(self, reader, writer):
        def answer(text):
            # Each by itself: what was asked at once is answered at once.
            self._loop.call_later(self.delay, lambda: None if writer.is_closing() else writer.write(text.encode() + b"\r\n"))

        answer("220 sink.example ESMTP")
        try:
            while line := await reader.readline():
                verb, _, rest = line.decode(errors="replace").strip().partition(" ")
                if verb.upper() == "EHLO":
                    lines = ["sink.example", *self.keywords]
                    answer("\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines))
                elif verb.upper() == "DATA":
                    answer("354 go on")
                    await reader.readuntil(b"\r\n.\r\n")
                    self._came(self.messages + 1)
                    answer("250 taken")
                elif verb.upper() == "BDAT":
                    await reader.readexactly(int(rest.split()[0]))
                    if rest.upper().endswith("LAST"):
                        self._came(self.messages + 1)
                    answer("250 taken")
                elif verb.upper() == "QUIT":
                    answer("221 bye")
                    self._loop.call_later(self.delay, writer.close)
                else:
                    answer("250 ok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)


class Relay:
    """`postrider serve` on a directory of its own; `more` is configuration."""

    def __init__(self, parent, more="", hold=False):
        self.dir, self.port, self.admin = tempfile.mkdtemp(prefix="postrider-", dir=parent), free_port(), free_port()
        self.config = pathlib.Path(self.dir, "postrider.toml")
        self.config.write_text(CONFIG.format(dir=self.dir, port=self.port, admin=self.admin) + more)
        self.start(hold)

    def start(self, hold=False, within=600):
        """Starts the relay and waits until it greets; how long that took."""
        command = [POSTRIDER, "serve", "--config", self.config, *(["--hold"] if hold else [])]
        started = time.monotonic()
        with open(pathlib.Path(self.dir, "log"), "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid

        def listens():
            if self.process.poll() is not None:
                raise SystemExit(f"postrider ended: {pathlib.Path(self.dir, 'log').read_text()[-2000:]}")
            return answers(self.port)

        wait_until("postrider listens", within, listens)
        return time.monotonic() - started

    def metrics(self):
        """All series, by name with labels; sums by name alone."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=60) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line and not line.startswith("#")]
        found = {}
        for series, value in (line.rsplit(" ", 1) for line in lines):
            name = series.partition("{")[0]
            found[series] = float(value)
            if name != series:
                found[name] = found.get(name, 0) + float(value)
        return found

    def metric(self, name):
        try:
            return self.metrics().get(name, 0)
        except OSError:
            return None

    def command(self, *words):
        """Runs a command of the relay; what it prints as JSON."""
        run = subprocess.run([POSTRIDER, *words, "--config", self.config], capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"postrider {' '.join(words)}: {run.stderr}")
        return json.loads(run.stdout) if "--json" in words else None

    def written_bytes(self):
        """Bytes that the process has caused to be written to disk."""
        with open(f"/proc/{self.pid}/io") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("write_bytes:"))

    def memory_mib(self):
        """Resident memory now, and the most there was."""
        with open(f"/proc/{self.pid}/status") as f:
            fields = dict(line.split(":", 1) for line in f)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.terminate()
        self.process.wait(60)

    def stop(self):
        if self.process.poll() is None:
            self.terminate()
        shutil.rmtree(self.dir, ignore_errors=True)


def load_command(port, messages, size, connections, *more):
    domain = [] if "--domain" in more else ["--domain", DOMAIN]
    return [
        POSTRIDER, "load", "--to", f"127.0.0.1:{port}", "--messages", str(messages), "--connections", str(connections),
        "--size", str(size), "--from", SENDER, "--quiet", "--json", *domain, *more,
    ]


def load(port, messages, size, connections, *more):
    """Runs the generator to its end; its report. All messages have to be accepted."""
    run = subprocess.run(load_command(port, messages, size, connections, *more), capture_output=True, text=True)
    return accepted_report(run.stdout, run.stderr)


def accepted_report(stdout, stderr=""):
    try:
        report = json.loads(stdout)
    except ValueError:
        raise SystemExit(f"postrider load: {stderr or stdout}")
    if report["accepted"] != report["attempted"]:
        raise SystemExit(f"only {report['accepted']} of {report['attempted']} were accepted: {report['failures']}")
    return report
