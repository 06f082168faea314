"""What a request asks for. A name that is not known, or given twice, is refused: nobody gets what was not asked."""

import re
from typing import Final

from starlette.requests import Request

from spymaster.errors import UsageError

_LEVEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")
_MOST_NS: Final = 2**63 - 1


class NotUsableError(UsageError):
    """A request's parameters are not usable."""


class Asked:
    """The parameters of one request, each read once."""

    def __init__(self, request: Request) -> None:
        """Read them.

        Raises:
            NotUsableError: one is given twice.
        """
        pairs = request.query_params.multi_items()
        self._given = dict(pairs)
        if len(pairs) != len(self._given):
            raise NotUsableError("a parameter is given twice. Nothing was read. Next: give each once")

    def only(self, *names: str) -> "Asked":
        """Refuse parameters of other names.

        Raises:
            NotUsableError: there is one.
        """
        if others := sorted({*self._given} - {*names}):
            known = ", ".join(names) or "none"
            raise NotUsableError(f"{others[0][:40]!r} is no parameter here. Nothing was read. Next: use {known}")
        return self

    def level(self) -> str:
        """Return the id of a level.

        Raises:
            NotUsableError: it is none.
        """
        return self._text("level", _LEVEL, "an id of a level, as /api/levels has them")

    def one_of(self, name: str, values: tuple[str, ...], default: str) -> str:
        """Return one of some values.

        Raises:
            NotUsableError: it is another.
        """
        value = self._given.get(name, default)
        if value not in values:
            raise _unusable(name, f"one of {', '.join(values)}")
        return value

    def ns(self, name: str, default: int | None = None) -> int:
        """Return a time, UTC nanoseconds.

        Raises:
            NotUsableError: it is none.
        """
        text = self._given.get(name)
        if text is None and default is not None:
            return default
        if text is None or not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > _MOST_NS:
            raise _unusable(name, "a time in UTC nanoseconds")
        return int(text)

    def has(self, name: str) -> bool:
        """Whether it is given."""
        return name in self._given

    def _text(self, name: str, form: re.Pattern[str], meaning: str) -> str:
        text = self._given.get(name, "")
        if not form.fullmatch(text):
            raise _unusable(name, meaning)
        return text


def _unusable(name: str, meaning: str) -> NotUsableError:
    return NotUsableError(f"{name!r} is not usable, or missing. Nothing was read. Next: give {meaning}")
