"""`python -m reidkit` runs the `reidkit` command; `torchrun -m reidkit` runs it in several processes."""

from reidkit.cli import main

if __name__ == "__main__":
    main()
