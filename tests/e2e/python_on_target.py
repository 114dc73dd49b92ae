"""What is asked of the prefix's Python on a target that has nothing else."""

import bz2
import ctypes
import curses  # noqa: F401
import importlib.metadata
import locale
import lzma
import os
import readline  # noqa: F401
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import zipfile
import zlib
import zoneinfo
from datetime import datetime


def compression():
    text = b"a text that is there twice, " * 2
    for module in (bz2, lzma, zlib):
        assert module.decompress(module.compress(text)) == text, module


def database():
    rows = sqlite3.connect(":memory:").execute("select upper('x') || sqlite_version()")
    assert rows.fetchone()[0].startswith("X3."), rows


def foreign_functions():
    libc = ctypes.CDLL(None)
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    pointer = ctypes.POINTER(ctypes.c_int)

    # libc calls back into Python through libffi.
    @ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
    def order(a, b):
        return a[0] - b[0]

    libc.qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), order)
    assert list(numbers) == [1, 2, 3], list(numbers)


def time_zones():
    berlin = datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    assert berlin.utcoffset().total_seconds() == 7200, berlin


def utf_8():
    assert sys.getfilesystemencoding() == "utf-8"
    assert locale.getpreferredencoding().lower().replace("-", "") == "utf8"
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    with open("/tmp/ü", "w") as file:
        file.write("ü")
    assert "ü" in os.listdir("/tmp") and os.path.getsize("/tmp/ü") == 2


def processes():
    said = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.prefix)"],
        check=True, capture_output=True, text=True,
    )
    assert said.stdout.strip() == sys.prefix, said


def certificates():
    """A server that only the target's own certificates vouch for is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/test/certificate.pem", "/test/key.pem")
    server = socket.create_server(("127.0.0.1", 0))

    def answer():
        with context.wrap_socket(server.accept()[0], server_side=True) as connection:
            connection.sendall(b"hello")

    thread = threading.Thread(target=answer)
    thread.start()
    with socket.create_connection(server.getsockname()) as plain:
        client = ssl.create_default_context()
        with client.wrap_socket(plain, server_hostname="localhost") as connection:
            assert connection.recv(5) == b"hello"
    thread.join()


def environments():
    """pip puts a wheel into a virtual environment in a place that can be written."""
    wheel = "/tmp/small-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small.py", "def answer():\n    return 42\n")
        about = "small-1.dist-info/"
        archive.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1\n")
        archive.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(about + "RECORD", "")
    subprocess.run([sys.executable, "-m", "venv", "/tmp/venv"], check=True)
    python = "/tmp/venv/bin/python"
    install = ["-m", "pip", "install", "--quiet", "--no-index", wheel]
    subprocess.run([python, *install], check=True)
    said = subprocess.run(
        [python, "-c", "import small; print(small.answer())"],
        check=True, capture_output=True, text=True,
    )
    assert said.stdout == "42\n", said


def wheel():
    """What the extension has from a wheel is as good as installed."""
    import greeting

    assert greeting.hello() == "hello"
    assert greeting.__file__.startswith(sys.argv[1] + "/usr/lib/"), greeting.__file__
    assert importlib.metadata.version("greeting") == "1"


def nothing_from_outside():
    with open("/proc/self/maps") as maps:
        files = {line.split()[5] for line in maps if "x" in line.split()[1] and "/" in line}
    outside = [file for file in files if not file.startswith(sys.argv[1] + "/")]
    assert files and not outside, outside


for check in (
    compression, database, foreign_functions, time_zones, utf_8, processes, certificates,
    environments, wheel, nothing_from_outside,
):
    check()
    print(check.__name__)
