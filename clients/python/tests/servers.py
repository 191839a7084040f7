"""Private servers for tests: PostgreSQL with the extension and, if asked for, a Redis that it writes to.

SS_BINDIR says where PostgreSQL's programs are (pg_config otherwise), SS_REDIS_SERVER which Redis. Both listen in a
folder of their own only, and are stopped by their process ids.
"""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any, Callable, Optional

SETTINGS = """
listen_addresses = ''
fsync = off
autovacuum = off
max_connections = 40
log_min_messages = warning
shared_preload_libraries = 'session_store'
session_store.purge_interval = 1s
"""


def wait_until(predicate: Callable[[], Any], what: str = "") -> Any:
    """What the predicate returns once that is true."""
    deadline = time.monotonic() + 120
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within two minutes: {what or predicate}"
        time.sleep(0.02)


class Servers:
    def __init__(self, redis: bool = False, settings: str = "") -> None:
        self.folder = tempfile.mkdtemp(prefix="ss-")
        self.redis_process: Optional[subprocess.Popen] = None
        self.redis_socket = os.path.join(self.folder, "redis")
        try:
            if redis:
                self.start_redis()
                settings += f"\nsession_store.redis_url = 'unix://{self.redis_socket}'\n"
            self._make_postgres(settings)
        except BaseException:
            self.stop()
            raise

    def dsn(self, **more: Any) -> str:
        settings = {"host": self.folder, "dbname": "postgres", "user": "postgres", **more}
        return " ".join(f"{name}={value}" for name, value in settings.items())

    # PostgreSQL

    def _program(self, name: str) -> str:
        folder = os.environ.get("SS_BINDIR") or subprocess.check_output(["pg_config", "--bindir"], text=True).strip()
        return os.path.join(folder, name)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}"

    def _make_postgres(self, settings: str) -> None:
        self.data = os.path.join(self.folder, "data")
        self._run(self._program("initdb"), "-D", self.data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8",
                  "--locale=C")
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as conf:
            conf.write(f"{SETTINGS}unix_socket_directories = '{self.folder}'\n{settings}")
        self.start_postgres()
        self.sql("CREATE EXTENSION session_store")

    def start_postgres(self) -> None:
        self._run(self._program("pg_ctl"), "start", "-w", "-t", "120", "-s", "-D", self.data,
                  "-l", os.path.join(self.folder, "log"))

    def stop_postgres(self, mode: str = "fast") -> None:
        self._run(self._program("pg_ctl"), "stop", "-w", "-t", "120", "-s", "-m", mode, "-D", self.data)

    def restart_postgres(self) -> None:
        self.stop_postgres()
        self.start_postgres()

    def sql(self, text: str) -> str:
        """Statements by psql as superuser; their output."""
        done = subprocess.run([self._program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text, self.dsn()],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def leased(self) -> None:
        """Waits until Redis has a lease and everything that was committed."""
        wait_until(lambda: self.sql("SELECT session_cache_sync() AND "
                                    "(session_health() -> 'cache' -> 'leased')::bool") == "t", "a lease")

    # Redis

    def start_redis(self) -> None:
        server = os.environ.get("SS_REDIS_SERVER", "redis-server")
        self.redis_process = subprocess.Popen(
            [server, "--port", "0", "--unixsocket", self.redis_socket, "--save", "", "--appendonly", "no",
             "--dir", self.folder, "--databases", "16"], stdout=subprocess.DEVNULL)
        wait_until(self._redis_answers, "Redis")

    def _redis_answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(self.redis_socket)
                client.sendall(b"PING\r\n")
                return client.recv(16) == b"+PONG\r\n"
            except OSError:
                return False

    def stop_redis(self) -> None:
        assert self.redis_process is not None
        self.redis_process.send_signal(signal.SIGCONT)
        self.redis_process.kill()
        self.redis_process.wait()
        if os.path.exists(self.redis_socket):
            os.unlink(self.redis_socket)
        self.redis_process = None

    def hang_redis(self) -> None:
        assert self.redis_process is not None
        self.redis_process.send_signal(signal.SIGSTOP)

    def resume_redis(self) -> None:
        assert self.redis_process is not None
        self.redis_process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if hasattr(self, "data") and os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.stop_postgres("immediate")
        if self.redis_process is not None:
            self.stop_redis()
        shutil.rmtree(self.folder)
