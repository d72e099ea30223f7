"""Runs modules in guests while pytest is still at the tests before them.

The emulated machine takes one core for minutes, while most other tests wait for something; side by side they take the
time of the longer ones. One thread runs one module after the other, in their order; whoever wants a result waits for
it there.
"""

import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from tests.lab.runner import Lost, Result

Coming = Generator[Result | Lost]


class Ahead:
    """`modules` says for each file how to begin with it; nothing starts before `start()`."""

    def __init__(self, modules: Mapping[Path, Callable[[], Coming]]) -> None:
        self._modules = modules
        self._here: dict[str, Result | Lost] = {}
        self._left = set(modules)
        self._failed: BaseException | None = None
        self._stopping = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="lab", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin with no further module and end the running one at its next result; does not wait."""
        self._stopping = True

    def go_on(self) -> None:
        """Raise InterruptedError once it is to stop."""
        if self._stopping:
            raise InterruptedError("the run of the tests has ended")

    def join(self) -> None:
        """Wait until nothing runs any more."""
        self._thread.join()

    def of(self, path: Path, nodeid: str) -> Result | Lost:
        """Wait for the result of a test. Whatever went wrong with the running of guests is raised here."""
        with self._news:
            self._news.wait_for(lambda: nodeid in self._here or path not in self._left or self._failed)
            if nodeid in self._here:
                return self._here.pop(nodeid)
            raise self._failed or KeyError(nodeid)

    def _run(self) -> None:
        try:
            for path, begin in self._modules.items():
                self._run_module(path, begin())
        except BaseException as error:  # the tests that wait must hear of it
            with self._news:
                self._failed = error
                self._news.notify_all()

    def _run_module(self, path: Path, coming: Coming) -> None:
        try:
            for outcome in coming:
                with self._news:
                    self._here[outcome.nodeid] = outcome
                    self._news.notify_all()
                self.go_on()
        finally:
            coming.close()
        with self._news:
            self._left.discard(path)
            self._news.notify_all()
