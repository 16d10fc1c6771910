"""`${NAME}` in a compose file, as the Compose specification writes it ("Interpolation")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.runtime import RuntimeProblem

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Variables:
    """What `${NAME}` sees, and what each name turned out to be when a text was expanded."""

    given: Mapping[str, str]
    resolved: dict[str, str] = field(default_factory=dict)

    def expand(self, text: str, where: str) -> str:
        """Replace each reference in `text`. Raises RuntimeProblem for a bad reference or an unset required one."""
        out: list[str] = []
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            out.append(text[position:dollar])
            value, position = self._reference(text, dollar + 1, where)
            out.append(value)
        out.append(text[position:])
        return "".join(out)

    def _reference(self, text: str, start: int, where: str) -> tuple[str, int]:
        if text.startswith("$", start):
            return "$", start + 1
        if text.startswith("{", start):
            end = _closing_brace(text, start, where)
            return self._braced(text[start + 1 : end], where), end + 1
        match = _NAME.match(text, start)
        if match is None:
            raise RuntimeProblem(f"{where}: '{text}' has a '$' that names no variable; write '$$' for a plain one.")
        return self._plain(match.group()), match.end()

    def _braced(self, body: str, where: str) -> str:
        match = _NAME.match(body)
        if match is None:
            raise RuntimeProblem(f"{where}: '${{{body}}}' names no variable.")
        name, rest = match.group(), body[match.end() :]
        if not rest:
            return self._plain(name)
        operator, argument = (rest[:2], rest[2:]) if rest[0] == ":" else (rest[:1], rest[1:])
        value = self.given.get(name)
        missing = not value if operator.startswith(":") else value is None
        match operator.lstrip(":"):
            case "-":
                value = self.expand(argument, where) if missing else value
            case "?":
                if missing:
                    raise RuntimeProblem(
                        f"{where}: {name} must be set: {self.expand(argument, where) or 'no default'}."
                    )
            case "+":
                return "" if missing else self.expand(argument, where)
            case _:
                raise RuntimeProblem(f"{where}: '${{{body}}}' uses an operator that Compose does not know.")
        self.resolved.setdefault(name, value or "")
        return value or ""

    def _plain(self, name: str) -> str:
        value = self.given.get(name, "")
        self.resolved.setdefault(name, value)
        return value


def _closing_brace(text: str, opening: int, where: str) -> int:
    depth = 0
    for index in range(opening, len(text)):
        if text[index] == "{" and text[index - 1] == "$":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    raise RuntimeProblem(f"{where}: '{text}' has a '${{' that is not closed.")
