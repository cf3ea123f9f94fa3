"""Storage of a study's queue: an SQLite file in its folder, or a PostgreSQL database for many machines."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vlm_lit.errors import ConfigError
from vlm_lit.files.file_lock import FileLock

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Connection

FOLDER: Final = "queue"
_FILE: Final = "optuna.db"
_POSTGRESQL: Final = "postgresql+psycopg://"
_PATIENCE: Final = 120.0  # seconds to wait for another process's transaction


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """How often a worker says that it lives, and after how long a silence it counts as dead; whole seconds."""

    every: int = 10
    grace: int = 60

    def __post_init__(self) -> None:
        if not 0 < self.every < self.grace:
            raise ConfigError(
                f"--heartbeat {self.every} and --grace {self.grace}: a worker must be heard of more often than it is "
                "given up. Make the grace a few times the heartbeat."
            )


def storage_url(folder: Path, asked: str | None) -> str:
    """The URL of a study's queue.

    Raises:
        ConfigError: what was asked for is neither a PostgreSQL nor left out.
    """
    if asked is None:
        return f"sqlite:///{(folder / FOLDER / _FILE).resolve()}"
    if not asked.startswith(_POSTGRESQL):
        raise ConfigError(
            f"--storage {asked.partition('@')[2] or asked}: a queue for several machines lies in PostgreSQL; write "
            f"{_POSTGRESQL}USER:PASSWORD@HOST/DATABASE. Without --storage it is a file in the study's folder."
        )
    return asked


def is_there(url: str) -> bool:
    """Whether a queue may be there already: a look at one that is not should not make it."""
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).is_file()


def open_storage(url: str, heartbeat: Heartbeat, lock: AbstractContextManager[object]) -> RDBStorage:
    """Optuna's storage at this URL; its tables are made where they are not there, by one at a time.

    Raises:
        ConfigError: a package is missing, or the database does not answer.
    """
    optuna = _optuna()
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    from sqlalchemy.exc import SQLAlchemyError

    with lock, expected_warnings():
        try:
            storage: RDBStorage = optuna.storages.RDBStorage(
                url, engine_kwargs=_engine_options(url), heartbeat_interval=heartbeat.every,
                grace_period=heartbeat.grace,
            )  # fmt: skip
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _unreachable(error) from error
    _one_writer_at_a_time(storage)
    return storage


def enqueue_lock(url: str, folder: Path, name: str) -> AbstractContextManager[object]:
    """What only one worker of a study may hold: to look which cells lack a place in the queue, and give them one.

    It is dropped when its holder dies.
    """
    if url.startswith("sqlite:///"):
        return FileLock(folder / FOLDER / "enqueue.lock")
    return _advisory_lock(url, name)


@contextmanager
def _advisory_lock(url: str, name: str) -> Iterator[None]:
    """PostgreSQL's lock by number; the server drops it when the connection ends, in whichever way."""
    _optuna()
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    number = int.from_bytes(hashlib.sha256(f"vlm_lit study {name}".encode()).digest()[:8], "big", signed=True)
    try:
        connection: Connection = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect()
    except (SQLAlchemyError, ImportError) as error:
        raise _unreachable(error) from error
    with connection:
        connection.execute(text("select pg_advisory_lock(:number)"), {"number": number})
        try:
            yield
        finally:
            connection.execute(text("select pg_advisory_unlock(:number)"), {"number": number})


@contextmanager
def named_queue_errors() -> Iterator[None]:
    """Say what a database that went away means for a study, in place of where in the code it was missed."""
    optuna = _optuna()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ConfigError(
            f"{_unreachable(error)} What the cells have done is kept; the same command goes on from there."
        ) from error


def _unreachable(error: Exception) -> ConfigError:
    if isinstance(error, ImportError):
        return ConfigError('A queue in PostgreSQL needs a driver: python -m pip install "vlm_lit[postgresql]".')
    cause = error.__cause__ or error
    reason = str(getattr(cause, "orig", None) or cause).strip().split("\n")[0]
    return ConfigError(f"The queue's database cannot be used: {reason}. Check --storage, and that its server is up.")


def _engine_options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite:///"):
        return {"connect_args": {"timeout": _PATIENCE}}
    return {"pool_pre_ping": True}  # a server that was restarted in the meantime is asked again


def _one_writer_at_a_time(storage: RDBStorage) -> None:
    """Have SQLite's transactions wait for each other from their beginning.

    Left alone, two that have read and then both want to write fail at once with `database is locked`.
    """
    from sqlalchemy import event

    if storage.engine.dialect.name != "sqlite":
        return
    storage.engine.dispose()  # connections made before were not told

    @event.listens_for(storage.engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:  # noqa: ANN401 - sqlite3's or a stand-in's
        connection.isolation_level = None

    @event.listens_for(storage.engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Without what Optuna says of itself: heartbeats, liars and named metrics are new, ask() is not optimize()."""
    optuna = _optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")
        yield


def _optuna() -> Any:  # noqa: ANN401 - a module
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError('Studies need Optuna: python -m pip install "vlm_lit[study]".') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Its own handler keeps the stderr of the moment at which it was made, which may be closed by now.
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    return optuna
