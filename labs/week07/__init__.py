"""Search: the labs of week 7."""
