"""The servers of the tests: their faults are what they say, and nothing is left of them, however a test ends."""
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from support import start_servers, wait_until


def runs(pid):
    return os.path.exists(f"/proc/{pid}/cwd")


class Support(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.servers = start_servers()
        cls.addClassCleanup(cls.servers.stop)
        cls.servers.cache_ready()

    def test_a_session_survives_restarts(self):
        servers = self.servers
        servers.sql("SELECT session_save('one', %s)", ('{"n": 1}',))
        for mode in ("fast", "immediate"):
            connection = servers.connect()
            servers.restart_postgres(mode)
            with self.assertRaises(Exception):
                connection.cursor().execute("SELECT 1")
            self.assertEqual(servers.value("SELECT session_get('one') ->> 'n'"), "1")

    def test_a_redis_that_hangs_or_is_killed(self):
        servers = self.servers
        servers.hang_redis()
        with self.assertRaises(OSError):
            servers.redis_command("PING")
        servers.resume_redis()
        self.assertEqual(servers.redis_command("PING"), "+PONG")
        servers.kill_redis()
        with self.assertRaises(OSError):
            servers.redis_command("PING")
        servers.start_redis()
        servers.cache_ready()

    def test_nothing_is_left(self):
        program = ("import sys; from support import start_servers; servers = start_servers();"
                   "servers.hang_redis(); print(servers.folder, flush=True); sys.stdin.read(1); servers.stop()")
        for end in ("stop", signal.SIGTERM, signal.SIGKILL):
            with self.subTest(end=end), subprocess.Popen(
                    [sys.executable, "-c", program], cwd=os.path.dirname(os.path.abspath(__file__)),
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
                folder = Path(child.stdout.readline().strip())
                pids = [int((folder / file).read_text().split()[0]) for file in ("redis/redis.pid", "data/postmaster.pid")]
                self.assertEqual([runs(pid) for pid in pids], [True, True])
                if end == "stop":
                    child.stdin.write("x")
                    child.stdin.flush()
                else:
                    child.send_signal(end)
                wait_until(lambda: not folder.exists(), "the folder is gone")
                self.assertEqual([runs(pid) for pid in pids], [False, False])


if __name__ == "__main__":
    unittest.main()
