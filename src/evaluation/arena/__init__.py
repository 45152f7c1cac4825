"""CodeUpdateArena, and the multi-update questions built from it."""
