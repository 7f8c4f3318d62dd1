"""`python -m latebolt`: the command line without an installed script."""

from latebolt.cli import main

if __name__ == "__main__":
    main()
