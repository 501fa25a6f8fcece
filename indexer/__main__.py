"""`depositd`, and `python -m indexer`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    try:
        from indexer import cli  # takes a second, in which somebody may press Ctrl-C
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
