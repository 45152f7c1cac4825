"""Gates: what a proven record must also satisfy, so that its check, its note and its target cannot be fooled."""
