"""What GRPO and SFT add to the pinned trl."""
