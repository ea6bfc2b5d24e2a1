"""Attack the parsers for as long as wanted: ``python -m tests.fuzz.campaign --seconds N --seed S``.

Mutates the seeds and composes inputs of each grammar's words. Says its seed first, so that a run can
be repeated; an input that breaks a promise is written to the parser's seeds, where the tests try it
from then on. Ends with 1 when there was one.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import signal
import sys
import time
from collections import Counter
from types import FrameType
from typing import Final

from tests.fuzz import seeds
from tests.fuzz.mutation import composed, mutated
from tests.fuzz.scp import SCP_PARSERS
from tests.fuzz.sftp import SFTP_PARSERS
from tests.fuzz.targets import PARSERS as TEXT_PARSERS

PARSERS: Final = {**TEXT_PARSERS, **SFTP_PARSERS, **SCP_PARSERS}

ROUND: Final = 50
"""How many inputs one parser gets before the next has its turn."""

POOL_LIMIT: Final = 2000
"""How many inputs of this run are mutated further; more make way for newer ones."""


HANG_S: Final = 20
"""How long an input may take before it is given up."""


class HangError(Exception):
    """A parser did not come back."""


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise HangError(f"no answer within {HANG_S} s")


class Campaign:
    """One run; the same seed and the same seeds folder try the same inputs in the same order."""

    def __init__(self, seed: int, parsers: list[str]) -> None:
        self._chance = random.Random(seed)
        self._pools = {name: list(seeds.known(name).values()) for name in parsers}
        self.tried: Counter[str] = Counter()
        self.found: dict[str, str] = {}

    def run(self, seconds: float) -> None:
        """Try inputs until the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name in self._pools:
                for _ in range(ROUND):
                    self._try(name, self._next(name))
                    if time.monotonic() > until:
                        return

    def _next(self, name: str) -> bytes:
        chance, pool, grammar = self._chance, self._pools[name], PARSERS[name].grammar
        if chance.randrange(8):
            base = chance.choice(pool)
        else:
            base = composed(chance, grammar.words, grammar.openings)
        data = mutated(chance, base, grammar.words, pool)
        if not chance.randrange(20) and len(data) < 2000:
            if len(pool) < POOL_LIMIT:
                pool.append(data)
            else:
                pool[chance.randrange(len(pool))] = data
        return data

    def _try(self, name: str, data: bytes) -> None:
        self.tried[name] += 1
        signal.alarm(HANG_S)
        try:
            PARSERS[name](data)
        except Exception as error:  # noqa: BLE001  whatever a parser does, the campaign goes on
            kind = f"{name}: {type(error).__name__}: {str(error)[:100]}"
            if kind not in self.found:
                self.found[kind] = str(seeds.keep(name, data))
                print(f"FOUND {kind}\n  {self.found[kind]}", flush=True)  # noqa: T201
        finally:
            signal.alarm(0)


def main(arguments: list[str]) -> int:
    """Run a campaign; return 1 when it found anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.campaign")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--parser", choices=sorted(PARSERS), action="append")
    options = parser.parse_args(arguments)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    # Thousands of hostile connections would fill the screen with the same few lines.
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _give_up)
    print(f"campaign: --seconds {options.seconds:g} --seed {seed}", flush=True)  # noqa: T201
    campaign = Campaign(seed, options.parser or list(PARSERS))
    campaign.run(options.seconds)
    for name, count in sorted(campaign.tried.items()):
        print(f"{name}: {count} inputs")  # noqa: T201
    print(f"{len(campaign.found)} found.")  # noqa: T201
    return 1 if campaign.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
