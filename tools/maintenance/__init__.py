"""What maintainers run beside the tests: has a change changed what the code makes?  The picture of its imports."""
