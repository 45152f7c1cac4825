"""How a record is checked, proven and stored."""
