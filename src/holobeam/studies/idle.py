"""How busy a machine is with other work: times are measured while it is not."""

from __future__ import annotations

import os
import time

BUSY_CORES = 0.35
"""Cores that others may keep busy while times are measured, before they count as contended."""

LOOK = 0.25
"""Seconds of one look: the system counts in hundredths of a second."""


def busy_seconds() -> float:
    """Seconds that all cores together have worked since the machine started; 0 where unknown."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(part) for part in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return 0.0
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Measures, from when it is made, how many cores other processes keep busy."""

    def __init__(self) -> None:
        self._busy, self._mine = busy_seconds(), time.process_time()
        self._begin = time.perf_counter()

    def others(self) -> float:
        """Cores that others kept busy on average so far."""
        spent = time.perf_counter() - self._begin
        mine = time.process_time() - self._mine
        return max(0.0, busy_seconds() - self._busy - mine) / spent


def others_busy() -> float:
    """Cores that others keep busy now."""
    watch = Watch()
    time.sleep(LOOK)
    return watch.others()


class Patience:
    """Seconds that may be spent in all on waiting for an idle machine.

    Parameters
    ----------
    seconds
        In all; with 0 nothing is waited for.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.left = seconds

    def spend(self, seconds: float) -> None:
        """Count time that was spent."""
        self.left = max(0.0, self.left - seconds)

    def wait_until_idle(self) -> bool:
        """Wait until other work has ended or patience has; whether the machine is idle."""
        while others_busy() > BUSY_CORES:
            if self.left <= 0:
                return False
            pause = min(1.0, self.left)
            time.sleep(pause)
            self.spend(pause + LOOK)
        return True
