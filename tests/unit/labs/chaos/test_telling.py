from __future__ import annotations

import io
import json
import os
import subprocess
import sys

from labs.chaos.telling import JsonTeller, PlainTeller


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_for_people_name_their_kind() -> None:
    out = io.StringIO()
    teller = PlainTeller(out)
    teller.event("started", "kill on web")
    teller.countdown(5)
    teller.event("receipt", "web died", {"pid": 1})
    assert out.getvalue() == "kill on web\nreceipt: web died\n"


def test_the_countdown_stays_in_its_line_and_is_wiped() -> None:
    out = Terminal()
    teller = PlainTeller(out)
    teller.countdown(5)
    teller.event("healed", "healed: web")
    assert out.getvalue() == "\r\x1b[Kheals in 5 s; Ctrl-C heals now\r\x1b[Khealed: web\n"


def test_an_event_is_one_line_of_json() -> None:
    out = io.StringIO()
    JsonTeller(out).event("receipt", "web died", {"facts": {"pid": 7}})
    assert json.loads(out.getvalue()) == {"event": "receipt", "text": "web died", "facts": {"pid": 7}}


def test_a_closed_reader_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "import sys; from labs.chaos.telling import PlainTeller; t = PlainTeller(sys.stdout)\n"
        "for n in range(3): t.event('started', 'x' * 9000)\n"
        "sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (7, b"")
