"""A PostgreSQL server of our own on loopback, for as long as the tests need it."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.ports import free_port

_numbers = itertools.count()


def program(name: str) -> str | None:
    """A program of the server: on the path, or where Debian puts what several versions have."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def _account() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    return None if os.getuid() != 0 else pwd.getpwnam("nobody").pw_name


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[int]:
    """The port of a server that trusts whoever asks."""
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server program is installed")
    # Not below pytest's folder: its parents are closed to other accounts.
    folder, account, port = Path(tempfile.mkdtemp(prefix="vlm_lit-postgres-")), _account(), free_port()
    if account is not None:
        shutil.chown(folder, account)
    data = folder / "data"
    subprocess.run(
        [initdb, "--pgdata", data, "--username=vlm_lit", "--auth=trust", "--no-sync"],
        user=account, check=True, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    words = [postgres, "-D", str(data), "-p", str(port), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, user=account, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(port, server, folder / "log")
        yield port
    finally:
        server.send_signal(signal.SIGQUIT)  # its immediate shutdown: nothing is to be kept
        server.wait()
        shutil.rmtree(folder)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert server.poll() is None, log.read_text()
        try:
            psycopg.connect(_address(port, "postgres")).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return


def _address(port: int, database: str) -> str:
    return f"postgresql://vlm_lit@127.0.0.1:{port}/{database}"


@pytest.fixture
def postgres_url(postgres_server: int) -> str:
    """An empty database, as `--storage` wants it."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(_address(postgres_server, "postgres"), autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return _address(postgres_server, name).replace("postgresql://", "postgresql+psycopg://")
