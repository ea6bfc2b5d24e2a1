"""The bar that shows on a terminal how far a long command is; silent elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """Implements the ``Progress`` protocols of what takes long, one stage after another."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: tqdm[Any] | None = None

    def begin(self, what: str, total: int | None, unit: str = "B") -> None:
        """Show a bar for the next stage; ``total`` None or 0: nobody knows."""
        self.close()
        if self._shown:
            # Loaded by the few commands that take long.
            from tqdm import tqdm  # noqa: PLC0415

            self._bar = tqdm(
                total=total or None,
                desc=what,
                unit=unit if total else "",
                unit_scale=True,
                unit_divisor=1024 if unit == "B" else 1000,
                leave=False,
                file=sys.stderr,
            )

    def advance(self, count: int) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Take the bar away, so that other lines can follow."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextlib.contextmanager
def showing(*, quiet: bool = False) -> Iterator[Bar]:
    """Give a bar that is taken away at the end; ``quiet``: that shows nothing anywhere."""
    bar = Bar(shown=sys.stderr.isatty() and not quiet)
    try:
        yield bar
    finally:
        bar.close()
