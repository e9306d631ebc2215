"""What the commands of `feasible.__main__` do; imported when one runs, so that `--help` waits for nothing."""
