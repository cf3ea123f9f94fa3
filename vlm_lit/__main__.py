"""`python -m vlm_lit`."""

from vlm_lit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
