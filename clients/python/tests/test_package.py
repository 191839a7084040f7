"""What is built for installation has the modules and nothing else, and their types; an adapter is short."""
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "session_store"


def sources(pattern="*.py"):
    return sorted(path for path in PACKAGE.rglob(pattern) if path.is_file())


class Package(unittest.TestCase):
    def test_the_wheel(self):
        for module in ("setuptools", "wheel"):
            if not importlib.util.find_spec(module):
                self.skipTest(f"no {module}")
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "copy")
            shutil.copytree(TOP, copy, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
            build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
            subprocess.run([sys.executable, "-c", build, folder], cwd=copy, check=True, capture_output=True)
            wheel, = Path(folder).glob("*.whl")
            names = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]
            modules = [str(path.relative_to(TOP)) for path in sources() + sources("py.typed")]
            self.assertEqual(sorted(name for name in names if ".dist-info/" not in name), sorted(modules))
            about = {name.rpartition("/")[2] for name in names if ".dist-info/" in name}
            self.assertEqual(about, {"LICENSE", "METADATA", "RECORD", "WHEEL", "top_level.txt"})
            metadata = next(name for name in names if name.endswith("/METADATA"))
            text = zipfile.ZipFile(wheel).read(metadata).decode()
            self.assertNotRegex(text, r"(?m)^Requires-Dist: (?!.*; extra ==)")  # all it needs is optional
            # without any module that is not Python's own
            program = f"import sys; sys.path.insert(0, {str(wheel)!r}); import session_store"
            subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)

    def test_the_version_is_that_of_the_extension(self):
        control = (TOP.parents[1] / "session_store.control").read_text()
        version = re.search(r"(?m)^default_version = '(.*)'", control).group(1)
        self.assertIn(f'version = "{version.replace("-dev", ".dev0")}"', (TOP / "pyproject.toml").read_text())

    def test_types(self):
        if not importlib.util.find_spec("mypy"):
            self.skipTest("no mypy")
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", folder, "session_store"], cwd=TOP,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_an_adapter_has_at_most_150_lines(self):
        shared = {"__init__", "async_store", "calls", "connections", "documents", "errors", "ids", "protocols", "reads"}
        for path in sources():
            if path.stem not in shared and not re.match("_[a-z]", path.stem):  # _checkpoints and the like are shared
                with self.subTest(path.name):
                    self.assertLessEqual(len(path.read_text().splitlines()), 150)


if __name__ == "__main__":
    unittest.main()
