"""The errors that end a program in one line. Everything else is a bug of this project and keeps its traceback."""


class ReCodeError(Exception):
    """Something outside this project's code is wrong: input, configuration, machine or server.

    Each argument is one line of the message: names of files and values from data, which can contain line breaks,
    never make it longer.
    """

    def __str__(self) -> str:
        return "\n".join(str(line).replace("\n", "\\n") for line in self.args)


class InputError(ReCodeError, ValueError):
    """A file, flag or configuration that cannot be used; the message names every problem, one a line."""


def message_of(error: BaseException) -> str:
    """An exception's message without its line breaks; its type if it has no message."""
    if isinstance(error, KeyError):  # whose message is the key
        return f"no key {error}"
    return " ".join(str(error).split()) or type(error).__name__
