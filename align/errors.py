"""The errors of align: one root, each child also the standard error that it replaces."""


class AlignError(Exception):
    """Root of every error that align raises on purpose.

    The message names the file, the row or the key, says why, and says what to do. The command line
    prints it alone, without a traceback, and exits with `exit_code`.
    """

    exit_code = 1


class RecipeError(AlignError, ValueError):
    """A recipe or a command's option that can't be run as it stands; nothing was started."""

    exit_code = 2


class InputError(AlignError, ValueError):
    """A file, a row or a dataset that a stage can't use."""


class ArtifactError(AlignError, RuntimeError):
    """What a stage wrote, or should have written, is not what the run expects."""


class CheckpointError(AlignError, RuntimeError):
    """A model folder, or the source of one, that can't be used."""


class ServingError(AlignError, RuntimeError):
    """A model server that could not be started, reached or kept alive."""


class BudgetError(AlignError, RuntimeError):
    """What a stage may spend is spent before it is done; it goes on from there when run again."""


class TrainingError(AlignError, RuntimeError):
    """Training that can't start or must not go on."""
