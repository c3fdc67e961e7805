"""`python -m reidkit` is the `reidkit` command; `torchrun -m reidkit` starts several processes of it."""

from reidkit.cli import main

if __name__ == "__main__":
    main()
