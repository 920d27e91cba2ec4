"""What a call answers, as a number to compare."""


def answer(call, *args, **fields):
    """0, or the errno."""
    try:
        call(*args, **fields)
    except OSError as error:
        return error.errno
    return 0
