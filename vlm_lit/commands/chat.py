"""`chat`: talk with a run's model about pictures, in the terminal; on request its base answers beside it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.commands.options import OptionParser, whole_number
from vlm_lit.errors import ConfigError, VlmLitError, printable

if TYPE_CHECKING:
    from vlm_lit.training.chat_session import ChatSession, Spoken
    from vlm_lit.training.opened_model import OpenedModel

_COMMANDS: Final = "/image FILE shows another picture and starts anew, /reset starts anew, /quit ends."
_EPILOG: Final = f"""While talking: {_COMMANDS}
Questions may also come through a pipe, one a line.
Answers are those that `test` gives: same prompt, system message and length, always the likeliest token."""


def _parser(verb: str) -> OptionParser:
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's directory, a merged model's folder, or a hub id (ORG/NAME)"
    )
    parser.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="picture to talk about; may be repeated"
    )
    parser.add_argument("--question", metavar="TEXT", help="ask this alone, print the answer and end")
    parser.add_argument("--compare", action="store_true", help="let the base without the adapter answer as well")
    parser.add_argument("--base", help="folder or hub id of the base, if it is not where it was trained from")
    parser.add_argument("--system", metavar="TEXT", help="system message; otherwise the run's")
    parser.add_argument(
        "--max_new_tokens", type=whole_number(1), metavar="N",
        help="longest answer in tokens; otherwise the run's, or 256 for a model without a run",
    )  # fmt: skip
    return parser


def run(verb: str, arguments: Sequence[str]) -> int:
    """Open the model and talk; the exit status.

    Raises:
        VlmLitError: there is no such run, or a picture or the question cannot be used.
    """
    parser = _parser(verb)
    options = parser.parse_intermixed_args(arguments)
    if options.run is None:  # here, so that a mistyped option is named first
        parser.error("RUN must be given")
    for path in options.image:
        if not path.expanduser().is_file():
            raise ConfigError(f"There is no picture {path}. Name a file that is here.")
    opened, session = _opened(options)
    if options.question is not None:
        _show(session.ask(options.question))
        return 0
    return _talk(opened, session)


def _opened(options: argparse.Namespace) -> tuple[OpenedModel, ChatSession]:
    from vlm_lit.training.chat_session import ChatSession
    from vlm_lit.training.opened_model import open_model

    opened = open_model(options.run, base=options.base)
    for note in opened.notes:
        print(f"warning: {printable(note, lines=True)}", file=sys.stderr)
    session = ChatSession(
        opened,
        compare=options.compare,
        images=options.image,
        system=options.system,
        max_new_tokens=options.max_new_tokens,
    )
    return opened, session


def _talk(opened: OpenedModel, session: ChatSession) -> int:
    """Answer line by line; 2 where something piped in could not be done."""
    status = 0
    if sys.stdin.isatty():
        print(f"{opened.name}, on {opened.device.type}.\n{_pictures(session)} {_COMMANDS}")
    for line in _lines():
        try:
            if not _commanded(line, session):
                _show(session.ask(line))
        except VlmLitError as error:
            print(f"error: {printable(' '.join(str(error).split()), lines=True)}", file=sys.stderr)
            status = 0 if sys.stdin.isatty() else 2
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print("\nStopped; the question is forgotten. /quit ends.")
    return status


def _lines() -> Iterator[str]:
    """What is typed or piped in, up to /quit or the end of it; empty lines are passed over."""
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401 - arrow keys and history in `input`
    while True:
        try:
            line = input("\n> ") if typed else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if (not typed and not line) or line.strip() in ("/quit", "/exit"):
            return
        if line.strip():
            yield line.strip()


def _commanded(line: str, session: ChatSession) -> bool:
    """Whether a line was a command, which is done then.

    Raises:
        ConfigError: there is no such command, or it cannot be done.
    """
    if not line.startswith("/"):
        return False
    command, _, rest = line.partition(" ")
    if command == "/reset":
        session.reset()
    elif command == "/image":
        session.show([Path(word) for word in _words(rest)])
    else:
        raise ConfigError(f"{command} is no command. {_COMMANDS}")
    if sys.stdin.isatty():
        print(f"A new conversation. {_pictures(session)}")
    return True


def _words(text: str) -> list[str]:
    if Path(text.strip()).expanduser().is_file():  # a name with blanks in it
        return [text.strip()]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"/image {text}: {error}. Write the file's name, in quotes if it has quotes in it."
        ) from error
    if not words:
        raise ConfigError("/image needs a file: /image FILE.")
    return words


def _pictures(session: ChatSession) -> str:
    names = ", ".join(str(image.path.name) for image in session.images if image.path is not None)
    return f"Picture: {names}." if names else "No picture."


def _show(answers: Sequence[Spoken]) -> None:
    width = max(len(answer.by) for answer in answers) + 2
    for answer in answers:
        text = printable(answer.reply.text, lines=True) if sys.stdout.isatty() else answer.reply.text
        if len(answers) > 1:
            text = f"{answer.by + ':':<{width}}" + text.replace("\n", "\n" + " " * width)
        print(text, flush=True)
