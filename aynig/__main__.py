"""`python -m aynig` is the same program as `aynig`."""

from aynig.cli.main import main

if __name__ == "__main__":
    main()
