"""`python -m handlers`: replay a bank's statement, place its standing orders, or make one up."""

from handlers.replay.cli import main

if __name__ == "__main__":
    main()
