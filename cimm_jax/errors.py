"""The one exception that bad input raises, so that the command line can turn it into one line and exit status 2."""


class InputError(ValueError):
    """An argument, a file or a setting cannot be used.

    The message is one line: it names the argument, gives the value or shape that was got, and says what to do.
    """
