"""The command `radwb`: the same verbs as the package.

Importing it loads no room; each command loads what it uses.
"""

import sys
from contextlib import nullcontext, redirect_stdout

from radwb.cli.parser import parser
from radwb.cli.verbs import no_formula, read_table, write

__all__ = ["main", "no_formula", "read_table", "write"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: of the command line; None takes the process's.
    Returns:
        0 = done, 1 = failed (one line says why), 130 = interrupted.
    Raises:
        SystemExit: with 2, the arguments weren't understood.
    """
    options = parser().parse_args(arguments)
    options.stdout = sys.stdout
    # the result alone goes to standard output as JSON, what is said on the way doesn't
    as_json = getattr(options, "json", False)
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            return options.call(options) or 0
    except KeyboardInterrupt:
        print("radwb: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if options.debug:
            raise
        text = " ".join(str(error).split()) or "no message"
        print(
            f"radwb {options.command}: {type(error).__name__}: {text} "
            "(--debug shows where)",
            file=sys.stderr,
        )
        return 1
