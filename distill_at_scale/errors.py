"""The one exception users meet: a sentence that names what is wrong, where, and the mend."""


class DasError(Exception):
    """One clear sentence for the user; every face prints it alone and exits with 1.

    Anything else that reaches a face is a bug and keeps its traceback.
    """
