"""``python -m instep`` is the command line."""

from instep.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
