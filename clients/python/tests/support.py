"""A private PostgreSQL with session_store and a private Redis, which the test owns, and their faults.

SS_BINDIR names the programs of PostgreSQL (default: what pg_config says), SS_REDIS_SERVER the Redis (default:
redis-server or valkey-server). Servers listen on sockets in a temporary folder. A guard holds the other end of a
pipe: when that closes, because stop() closes it or because this process ends in whatever way, it stops the servers
by their process ids and removes the folder.
"""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

try:
    import psycopg as driver
except ImportError:
    import psycopg2 as driver

LIMIT = 120  # seconds: for machines that are busy
GUARD = Path(__file__).resolve().parents[3] / "test/clients/guard"


def wait_until(predicate, what="it is so", limit=LIMIT):
    """Waits until the predicate returns what is true, and returns that; an error counts as not yet."""
    deadline, pause = time.monotonic() + limit, 0.005
    while True:
        why = None
        try:
            result = predicate()
            if result:
                return result
        except Exception as error:
            why = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out waiting until {what}") from why
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


class Servers:
    """start_servers() makes one; addClassCleanup(servers.stop) ends it."""

    def __init__(self, redis=True, extension=True, settings=None, redis_settings=()):
        self.has_redis = redis
        self.folder = Path(tempfile.mkdtemp(prefix="ss-"))
        self.data, self.redis_folder = self.folder / "data", self.folder / "redis"
        self.redis_socket = str(self.redis_folder / "socket")
        self.redis_url = "unix://" + self.redis_socket  # as redis-py and session_store.redis_url have it
        self.connection = {"host": str(self.folder), "port": 5432, "user": "postgres", "dbname": "postgres"}
        self.dsn = " ".join(f"{name}={value}" for name, value in self.connection.items())
        self.env = {
            "PGHOST": str(self.folder), "PGPORT": "5432", "PGUSER": "postgres", "PGDATABASE": "postgres",
            "SS_REDIS_SOCKET": self.redis_socket,
        }
        self._as = {}
        if os.getuid() == 0:  # a server refuses to run as root
            user = pwd.getpwnam("postgres")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._guard = subprocess.Popen(
            ["/bin/sh", str(GUARD)], cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, **self._as)
        try:
            self._init(settings or {}, redis_settings)
            if extension:
                self.sql("CREATE EXTENSION session_store")
        except BaseException:
            self.stop()
            raise

    def _run(self, *command):
        # what the servers keep open must not be a pipe of ours: its reader would wait for them
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}, **self._as)
            if done.returncode:
                output.seek(0)
                raise RuntimeError(f"{command[0]} failed: {output.read().decode(errors='replace')[-2000:]}")

    def _program(self, name):
        if "SS_BINDIR" not in os.environ:
            os.environ["SS_BINDIR"] = subprocess.check_output(["pg_config", "--bindir"], text=True).strip()
        return os.path.join(os.environ["SS_BINDIR"], name)

    def _init(self, settings, redis_settings):
        self._run(self._program("initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8", "-N", "--no-instructions")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "port": 5432,
            "fsync": "off",
            "shared_preload_libraries": "session_store",
            **({"session_store.redis_url": self.redis_url} if self.has_redis else {}),
            **settings,
        }
        with open(self.data / "postgresql.conf", "a") as conf:
            for name, value in settings.items():
                conf.write("{} = '{}'\n".format(name, str(value).replace("'", "''")))
        if self.has_redis:
            self._run("/bin/mkdir", str(self.redis_folder))
            lines = ["port 0", f"unixsocket {self.redis_socket}", f"dir {self.redis_folder}",
                     f"pidfile {self.redis_folder}/redis.pid", f"logfile {self.redis_folder}/log", "daemonize yes",
                     'save ""', *redis_settings]
            (self.redis_folder / "conf").write_text("\n".join(lines) + "\n")
            self.start_redis()
        self.start_postgres()

    def connect(self, **options):
        """A connection of the driver that is here (psycopg 3, else psycopg2), in autocommit."""
        connection = driver.connect(**{**self.connection, **options})
        connection.autocommit = True
        return connection

    def sql(self, text, values=None):
        """Runs a statement on a connection of its own and returns its rows."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(text, values)
            return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def value(self, text, values=None):
        """The first column of the first row."""
        rows = self.sql(text, values)
        return rows[0][0] if rows else None

    def cache_ready(self):
        """Waits until strong readers may trust Redis, and everything that was committed is there."""
        wait_until(lambda: self.redis_command("EXISTS", "session_store:lease") == ":1"
                   and self.value("SELECT session_cache_sync('1 s')"), "the cache is up")

    def start_postgres(self):
        try:
            self._run(self._program("pg_ctl"), "start", "-s", "-w", "-t", str(LIMIT), "-D", str(self.data),
                      "-l", str(self.folder / "log"))
        except RuntimeError as error:
            log = self.folder / "log"
            raise RuntimeError(log.read_text()[-2000:] if log.exists() else "no log") from error

    def stop_postgres(self, mode="fast"):
        """mode: fast, immediate or smart"""
        self._run(self._program("pg_ctl"), "stop", "-s", "-w", "-t", str(LIMIT), "-D", str(self.data), "-m", mode)

    def restart_postgres(self, mode="fast"):
        self.stop_postgres(mode)
        self.start_postgres()

    def start_redis(self):
        names = [os.environ["SS_REDIS_SERVER"]] if "SS_REDIS_SERVER" in os.environ else ["redis-server", "valkey-server"]
        program = next(filter(None, map(shutil.which, names)), None)
        if program is None:
            raise RuntimeError(f"not on the path: {names}")
        self._run(program, str(self.redis_folder / "conf"))
        wait_until(lambda: self.redis_command("PING") == "+PONG", "Redis runs")

    def _redis_pid(self):
        return int((self.redis_folder / "redis.pid").read_text())

    def hang_redis(self):
        """Redis takes connections and answers nothing, until it is resumed."""
        os.kill(self._redis_pid(), signal.SIGSTOP)

    def resume_redis(self):
        os.kill(self._redis_pid(), signal.SIGCONT)

    def kill_redis(self):
        """Redis is gone, with all that it held."""
        pid = self._redis_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}/cwd"), "Redis is gone")
        for file in (Path(self.redis_socket), self.redis_folder / "redis.pid"):
            if file.exists():
                file.unlink()

    def restart_redis(self):
        self.kill_redis()
        self.start_redis()

    def redis_command(self, *words):
        """The first line of an answer of Redis, as it came (+PONG, :1, $3); needs no client library."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(self.redis_socket)
            parts = [word.encode() for word in words]
            connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            answer = b""
            while b"\r\n" not in answer:
                part = connection.recv(4096)
                if not part:
                    raise ConnectionError("Redis has closed the connection")
                answer += part
            return answer.split(b"\r\n")[0].decode()

    def stop(self):
        """Nothing is left: no process and no folder."""
        if self._guard.returncode is None:
            self._guard.stdin.close()
            self._guard.wait()


def start_servers(redis=True, extension=True, settings=None, redis_settings=()):
    """Starts servers.

    redis           False for a server without a cache
    extension       False if the test creates it
    settings        of PostgreSQL, by their names
    redis_settings  lines of redis.conf
    """
    return Servers(redis, extension, settings, redis_settings)
