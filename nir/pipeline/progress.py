"""Progress of a pipeline run: one line for each finished step, with the overall bar in it."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from nir.pipeline.remaining import Remaining, in_words

QUIET_SECONDS = 20.0  # after which running steps are named, so that no minute is silent

BAR_WIDTH = 20

SHOWN = ("Nothing to be done", "Trying to restart")  # of what Snakemake says for information

LOG_LINES = 15  # of a failed step's log

RULE = re.compile(r"\(Rule: (\w+)\)")


class StepLines:
    """Turn Snakemake's log events into lines that a person can follow.

    Args:
        stream: where the lines go.
        quiet_seconds: silence after which the running steps are named.
    """

    def __init__(self, stream: TextIO | None = None, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet_seconds
        self._running: dict[int, tuple[str, float]] = {}
        self._steps: dict[int, str] = {}
        self._rules: dict[int, str] = {}
        self._done, self._total = 0, 1
        self._remaining = Remaining({})
        self._start = time.monotonic()
        self._plan = ""
        self._spoke = time.monotonic()
        self._watch = threading.Thread(target=self._name_running, daemon=True)

    def follow(self, record: logging.LogRecord) -> None:
        """Follow one event; of other records only warnings and what must be read are shown."""
        event = getattr(record, "event", None)
        handle = getattr(self, f"_{event}", None) if event else None
        if handle:
            handle(vars(record))
        elif event is None and (
            record.levelno >= logging.WARNING or str(record.msg).startswith(SHOWN)
        ):
            self._print(record.getMessage())

    def _run_info(self, fields: dict[str, Any]) -> None:
        counts = {k: v for k, v in fields["stats"].items() if k not in ("total", "all")}
        self._total = sum(counts.values())
        steps = ", ".join(f"{n} {rule.replace('_', ' ')}" for rule, n in counts.items())
        plan = f"{self._total} steps: {steps}"
        if plan != self._plan:  # of a dry run Snakemake tells it twice
            self._plan = plan
            self._print(plan)
        self._remaining, self._start = Remaining(counts), time.monotonic()

    def _job_info(self, fields: dict[str, Any]) -> None:
        self._rules[fields["jobid"]] = fields["rule_name"]
        about = ", ".join(str(v) for v in (fields.get("wildcards") or {}).values())
        self._steps[fields["jobid"]] = f"{fields['rule_name'].replace('_', ' ')}  {about}".rstrip()
        self._running[fields["jobid"]] = (self._steps[fields["jobid"]], time.monotonic())
        if not self._watch.is_alive():
            self._watch.start()

    def _job_started(self, fields: dict[str, Any]) -> None:
        """Note steps that are sent to a cluster, of which no more is told before they end."""
        for number in fields["jobs"]:
            self._running.setdefault(number, ("", time.monotonic()))
        if not self._watch.is_alive():
            self._watch.start()

    def _job_finished(self, fields: dict[str, Any]) -> None:
        name, start = self._running.pop(fields["job_id"], ("", 0.0))
        if not name and (rule := RULE.search(str(fields.get("msg")))):
            name = rule[1].replace("_", " ")
        if name and name != "all":
            self._done += 1
            took = time.monotonic() - start
            self._remaining.finish(self._rules.pop(fields["job_id"], name), took)
            self._say(f"{name}  {took:.1f} s{self._left()}")

    def _job_error(self, fields: dict[str, Any]) -> None:
        self._running.pop(fields["jobid"], None)
        self._say(f"FAILED  {self._steps.get(fields['jobid'], fields['rule_name'])}")
        for path in map(Path, fields.get("log") or []):
            if path.exists():
                self._print(f"  its log, {path}, ends with:")
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                self._print("\n".join(f"  | {line}" for line in lines[-LOG_LINES:]))

    def _error(self, fields: dict[str, Any]) -> None:
        self._print(str(fields.get("msg") or fields.get("exception")))

    def _left(self) -> str:
        """Word how long the rest may take."""
        seconds = self._remaining.seconds(time.monotonic() - self._start)
        left = self._done < self._total
        return f"  ({in_words(seconds)} left)" if seconds is not None and left else ""

    def _say(self, text: str) -> None:
        """Print a line with the overall bar."""
        full = BAR_WIDTH * self._done // max(self._total, self._done, 1)
        bar = "#" * full + "-" * (BAR_WIDTH - full)
        self._print(f"[{bar}] {self._done:>3} of {self._total}  {text}")

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
        self._spoke = time.monotonic()

    def _name_running(self) -> None:
        """Say what is going on whenever nothing was said for a while."""
        while True:
            time.sleep(self._quiet / 4)
            now = time.monotonic()
            if self._running and now - self._spoke > self._quiet:
                running = list(self._running.values())
                steps = [f"{name} ({now - start:.0f} s)" for name, start in running if name]
                sent = sum(not name for name, _ in running)
                steps += [f"{sent} sent to the cluster"] if sent else []
                self._say("running: " + "; ".join(steps))
