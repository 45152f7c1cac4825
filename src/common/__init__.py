"""What several folders share; imports nothing of the project outside itself."""
