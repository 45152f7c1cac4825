"""What DAPO adds to the pinned verl."""
