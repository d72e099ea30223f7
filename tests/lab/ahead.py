"""Runs modules in guests while pytest is still at the tests before them.

A test waits for most of its time, in an emulated machine as outside of it, so side by side they take the time of the
longest. Each of a few lanes runs one module after the other, begun in their order; whoever wants a result waits for it
there.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from tests.lab.runner import Lost, Result

Coming = Generator[Result | Lost]


class Ahead:
    """`modules` says for each file how to begin with it; nothing starts before `start()`."""

    def __init__(self, modules: Mapping[Path, Callable[[], Coming]], *, lanes: int) -> None:
        self._modules = deque(modules.items())
        self._here: dict[str, Result | Lost] = {}
        self._left = set(modules)
        self._failed: BaseException | None = None
        self._stopping = False
        self._news = threading.Condition()
        self._lanes = [threading.Thread(target=self._run, name="lab", daemon=True) for _ in range(lanes)]

    def start(self) -> None:
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """Begin with no further module and end the running one at its next result; does not wait."""
        self._stopping = True

    def go_on(self) -> None:
        """Raise InterruptedError once it is to stop."""
        if self._stopping:
            raise InterruptedError("the run of the tests has ended")

    def join(self) -> None:
        """Wait until nothing runs any more."""
        for lane in self._lanes:
            lane.join()

    def of(self, path: Path, nodeid: str) -> Result | Lost:
        """Wait for the result of a test. Whatever went wrong with the running of guests is raised here."""
        with self._news:
            self._news.wait_for(lambda: nodeid in self._here or path not in self._left or self._failed)
            if nodeid in self._here:
                return self._here.pop(nodeid)
            raise self._failed or KeyError(nodeid)

    def _run(self) -> None:
        try:
            while self._failed is None and (module := self._take()):
                path, begin = module
                self._run_module(path, begin())
        except BaseException as error:  # the tests that wait must hear of it
            with self._news:
                self._failed = error
                self._news.notify_all()

    def _take(self) -> tuple[Path, Callable[[], Coming]] | None:
        with self._news:
            return self._modules.popleft() if self._modules else None

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
