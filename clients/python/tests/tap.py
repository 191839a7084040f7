"""tap.py FILE..: runs unittest over test files, and prints each test as a line of TAP."""
import importlib
import re
import sys
import traceback
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parent


class TapResult(unittest.TestResult):
    count = 0

    def line(self, verdict, test, rest=""):
        self.count += 1
        name = re.sub(r"^\w+\.|#", "", test.id())
        print(f"{verdict} {self.count} - {name}{rest}", flush=True)

    def failed(self, test, error):
        self.line("not ok", test)
        for line in "".join(traceback.format_exception(*error)).splitlines():
            print("#", line, flush=True)

    def addSuccess(self, test):
        self.line("ok", test)

    def addSkip(self, test, reason):
        self.line("ok", test, f" # SKIP {reason}")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.failed(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.failed(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.failed(subtest, error)

    def addExpectedFailure(self, test, error):
        self.line("not ok", test, " # TODO")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.line("not ok", test)


def main(files):
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    suite, result = unittest.TestSuite(), TapResult()
    for name in (Path(file).stem for file in files):
        try:
            suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)))
        except unittest.SkipTest as why:
            result.count += 1
            print(f"ok {result.count} - {name} # SKIP {why}", flush=True)
    suite.run(result)
    print(f"1..{result.count}")
    return 0 if result.count and result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
