"""What the tools share: the machine that is measured, and work that may end its process.  Needs nothing but Python."""
