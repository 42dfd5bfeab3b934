"""Wrong labels among handwritten digits: found, looked at, left out."""
