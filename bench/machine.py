"""What the judge knows about the machine: who else computes, how much memory a process has, and
programs that are started, measured and always stopped."""
import json
import os
import platform
import resource
import socket
import subprocess
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
FOREIGN_MAX = 0.03  # share of the machine that others may have used in a measurement that counts
QUIET_WAIT_S = 60
live = set()  # servers that run: their processor time is ours


class Failed(Exception):
    pass


def process_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    except OSError:
        return 0.0


def own_seconds():
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total + sum(process_seconds(pid) for pid in live)


def busy_seconds():
    """Of all processors, with what the hypervisor took away."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = (int(x) for x in f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


class Watch:
    """Share of the machine that others used since it was made."""

    def __init__(self):
        self.time, self.busy, self.own = time.monotonic(), busy_seconds(), own_seconds()

    def foreign(self):
        wall = max(time.monotonic() - self.time, 0.01)
        others = busy_seconds() - self.busy - (own_seconds() - self.own)
        return max(others, 0.0) / wall / os.cpu_count()


def wait_quiet():
    """Programs that wait by spinning lose by a factor when they share a processor: measured then,
    they would be judged by somebody else's work."""
    end = time.monotonic() + QUIET_WAIT_S
    while time.monotonic() < end:
        watch = Watch()
        time.sleep(1.5)
        if watch.foreign() <= FOREIGN_MAX:
            return


def warm_page_cache(path):
    with open(path, "rb", buffering=0) as f:
        block = bytearray(1 << 22)
        while f.readinto(block):
            pass


def run_json(args, limit_s=300):
    done = subprocess.run(args, capture_output=True, text=True, timeout=limit_s)
    if done.returncode:
        raise Failed(f"{args[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout


def cpu_name():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def http(port, method, path, body=None, limit_s=30):
    """(status, body) of one request; (0, b"") where nobody answers."""
    data = json.dumps(body).encode() if body is not None else b""
    head = (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as s:
            s.sendall(head.encode() + data)
            answer = b"".join(iter(lambda: s.recv(65536), b""))
    except OSError:
        return 0, b""
    head, _, rest = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]) if len(words) > 1 else 0), rest


class Server:
    """A server process from its start until the block ends."""

    def __init__(self, args, port, ready_path, limit_s=120):
        self.args, self.port, self.ready_path, self.limit_s = args, port, ready_path, limit_s

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        start = time.monotonic()
        self.process = subprocess.Popen(self.args, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        live.add(self.process.pid)
        try:
            self._await(start)
        except BaseException:
            self.__exit__()
            raise
        self.start_ms = (time.monotonic() - start) * 1e3
        return self

    def _await(self, start):
        while http(self.port, "GET", self.ready_path, limit_s=5)[0] != 200:
            if self.process.poll() is not None or time.monotonic() - start > self.limit_s:
                self.log.seek(0)
                raise Failed(f"{self.args[0]} did not start: {self.log.read()[-800:].decode(errors='replace')}")
            time.sleep(0.002)

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        raise Failed("no VmRSS")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        live.discard(self.process.pid)
        self.log.close()
