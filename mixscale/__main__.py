"""`python -m mixscale` is the command `mixscale`."""

from mixscale.cli import script

if __name__ == "__main__":
    script()
