"""aynig: all you need is git. A commit with a state goes in, the answer comes back as a commit."""

__version__ = "0.1.0"
