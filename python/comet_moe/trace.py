# SPDX-License-Identifier: Apache-2.0
"""Trace: what every worker did in one call."""

from __future__ import annotations

import collections
import os
import sys
import tempfile
import webbrowser
from pathlib import Path

from comet_moe import _core
from comet_moe._errors import FileError, InvalidArgumentError

#: An interval; numbers that do not apply are -1.
Event = collections.namedtuple(
    "Event", "kind rank worker begin_ns end_ns group tile panel peer block")


class Trace:
    """One call on all ranks. In a notebook it shows itself."""

    def __init__(self, core: _core.CallTrace) -> None:
        self._core = core

    @property
    def milliseconds(self) -> float:
        """From the first event of any rank to the last."""
        return self._core.milliseconds

    @property
    def events(self) -> list[Event]:
        """All intervals, in no particular order."""
        return [Event(*event) for event in self._core.events()]

    def seconds_by_kind(self) -> dict[str, float]:
        """Time of all workers by what it was spent on; "link_pull" and "link_push" are the link's."""
        sums: dict[str, float] = {}
        for event in self.events:
            sums[event.kind] = sums.get(event.kind, 0.0) + (event.end_ns - event.begin_ns) * 1e-9
        return sums

    def save(self, path: str | os.PathLike) -> None:
        """Writes a picture (.svg), or what ui.perfetto.dev and chrome://tracing open (.json)."""
        path = Path(path)
        if path.suffix == ".svg":
            try:
                path.write_text(self._core.svg(), encoding="utf-8")
            except OSError as error:
                raise FileError(f"[trace] cannot write '{path}': {error.strerror}") from error
        elif path.suffix == ".json":
            self._core.write_chrome_json(str(path))
        else:
            raise InvalidArgumentError(f"[trace] {path}: the ending says what to write, .svg or .json")

    def show(self) -> None:
        """Draws the timeline: in the notebook, else in the browser."""
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
            from IPython.display import SVG, display
            display(SVG(self._core.svg()))
            return
        with tempfile.NamedTemporaryFile("w", suffix=".svg", delete=False, encoding="utf-8") as file:
            file.write(self._core.svg())
        webbrowser.open(Path(file.name).as_uri())

    def _repr_svg_(self) -> str:
        return self._core.svg()

    def __repr__(self) -> str:
        return (f"Trace({self._core.schedule} on {self._core.ranks} ranks, {self.milliseconds:.2f} ms, "
                f"{len(self._core.events())} events)")
