"""`python -m skjob` is `skjob`."""

from skjob.cli.app import main

if __name__ == "__main__":
    main()
