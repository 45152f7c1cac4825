"""From release notes to proposed records, with a model."""
