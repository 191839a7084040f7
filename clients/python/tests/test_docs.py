"""The programs in README.md and in docs/clients.md run.

Each block "python" is a program, in a process of its own, after the blocks "sql" of docs/clients.md. It has PGHOST and
so on and REDIS_URL in its environment. One that does not import SessionStore itself follows the first lines of
README.md's first block, so that it may use `pool` and `store`. After it comes tests/programs/NAME.py, NAME being that of
the section, if there is one.
"""
import importlib.util
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

from support import start_servers

TOP = Path(__file__).resolve().parents[1]
README, CLIENTS = TOP / "README.md", TOP.parents[1] / "docs/clients.md"


def blocks(document, kind):
    """Section and text of each block of a kind."""
    section = "begin"
    for heading, tag, block in re.findall(r"^## ([^\n]*)|^```(\w+)\n(.*?)^```", document.read_text(), re.M | re.S):
        if heading:
            section = re.sub(r"[^a-z0-9]+", "_", heading.lower())
        elif tag == kind:
            yield section, block


def missing(program):
    """The modules that it imports and that are not here."""
    names = set(re.findall(r"^(?:import|from) (\w+)", program, re.M))
    return sorted(name for name in names if name != "session_store" and not importlib.util.find_spec(name))


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.servers = start_servers()
        cls.addClassCleanup(cls.servers.stop)
        for _, block in blocks(CLIENTS, "sql"):
            cls.servers.sql(block)
        cls.servers.cache_ready()
        cls.beginning = re.match(r".*?^store = [^\n]*\n", next(blocks(README, "python"))[1], re.M | re.S).group()

    def run_program(self, section, block):
        parts = ["" if "import SessionStore" in block else self.beginning, block]
        check = TOP / "tests/programs" / f"{section}.py"
        if check.exists():
            parts.append(check.read_text())
        program = "".join(parts)
        if missing(program):
            self.skipTest(f"no {', '.join(missing(program))}")
        environment = {**os.environ, **self.servers.env, "PYTHONPATH": str(TOP), "REDIS_URL": self.servers.redis_url}
        done = subprocess.run([sys.executable, "-c", program], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)


def add(document):
    for number, (section, block) in enumerate(blocks(document, "python"), 1):
        name = f"test_{document.stem.lower()}_{number}_{section}"
        setattr(Programs, name, lambda self, section=section, block=block: self.run_program(section, block))


add(README)
add(CLIENTS)

if __name__ == "__main__":
    unittest.main()
