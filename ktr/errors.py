"""Every error that ktr raises on purpose. Each message names the file, key or row, and the remedy.

``MediaError``, ``RowError`` and ``PromptTooLong`` belong to one question: they become counted, logged skips, and the
class name is the kind under which a skip is counted. All others stop the run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class KtrError(Exception):
    """Base of all errors that ktr raises on purpose."""


class ConfigError(KtrError):
    """A value or key of the configuration that cannot be used."""


class InputError(ConfigError):
    """What a command line gives to look at (a video, a question, a completion) cannot be used; nothing was done."""


class MissingModel(KtrError):
    """A model folder that is not there, or lacks a file."""


class MissingData(KtrError):
    """An annotation file or media folder that is not there, cannot be read, or holds nothing usable."""


class NonFiniteError(KtrError):
    """NaN or infinity in a loss or a gradient."""


class LostRank(KtrError):
    """Other ranks of a distributed run are gone, out of reach, or late. The run can be resumed."""


class PromptTooLong(KtrError):
    """A prompt with more tokens than the limit, or than the model has positions for beside an answer."""

    def __init__(self, question_id: str, num_tokens: int, limit: int, of_model: bool = False):
        super().__init__(question_id, num_tokens, limit, of_model)
        self.question_id, self.num_tokens, self.limit, self.of_model = question_id, num_tokens, limit, of_model

    def __str__(self) -> str:
        limit, raised = "the limit is", "raise encoder.max_prompt_tokens"
        if self.of_model:
            limit, raised = "beside an answer the model has positions for", "lower sampling.max_tokens"
        return (
            f"question {self.question_id}: the prompt has {self.num_tokens} tokens, {limit} {self.limit}; "
            f"{raised}, or lower video.num_frames or video.max_pixels"
        )


class MediaError(KtrError):
    """A video or image that cannot be used. ``path`` is the file, ``reason`` what is wrong with it."""

    remedy = "replace the file or drop its row"

    def __init__(self, path: Path | str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.remedy}"


class MissingMedia(MediaError):
    """No file at the path."""

    remedy = "check media_root and the row's path"


class MediaOutsideRoot(MediaError):
    """A path that leaves the media root, also through a symbolic link."""

    remedy = "move the file under media_root or change media_root"


class NotAVideo(MediaError):
    """A readable file that is something else: sound without a picture, a picture, a list of other files."""

    remedy = "replace the file, drop its row, or correct its data_type"


class NotAnImage(MediaError):
    """A video, an animation or a sound where a picture is expected."""

    remedy = "replace the file, drop its row, or correct its data_type"


class TooThinMedia(MediaError):
    """A picture so much longer in one direction than in the other that the model's processor refuses it."""


class TooLongMedia(MediaError):
    """A video that lasts so long that its last frames have no position in the model."""

    remedy = "cut the file or drop its row"


class TooShortMedia(MediaError):
    """A video with fewer frames than ``min_frames``."""

    remedy = "replace the file, drop its row, or lower min_frames"


class CorruptMedia(MediaError):
    """A file that no decoder reads to the end: empty, truncated or damaged."""


class DecodeTimeout(MediaError):
    """A file whose decoding did not end within the time limit."""

    remedy = "replace the file, drop its row, or raise decode_timeout_s"


class RowError(KtrError):
    """A row of an annotation file that cannot become a question. ``row`` is its index (from 0) or its id."""

    remedy = "correct or drop the row"

    def __init__(self, file: Path | str, row: int | str, reason: str):
        super().__init__(file, row, reason)
        self.file, self.row, self.reason = str(file), row, reason

    def __str__(self) -> str:
        file = f"{self.file}, " if self.file else ""  # a question need not name the file that it came from
        return f"{file}row {self.row}: {self.reason}; {self.remedy}"


class MalformedRow(RowError):
    """A row that is not an object, or lacks its problem or its media path."""


class FormatFault(RowError):
    """A row that the function of a user's own format failed at, or gave no fields for."""

    remedy = "correct the row, or the function of format"


class MissingAnswer(RowError):
    """A row without a solution, or with an empty one."""


class UnreadableAnswer(RowError):
    """An answer that no completion could match, such as a numerical question whose answer is no number."""


class DemonstrationTooLong(RowError):
    """A written answer that leaves the context of the model."""

    remedy = "shorten or drop the row, or lower video.num_frames or video.max_pixels"


class UnknownProblemType(RowError):
    """A problem type that no reward is defined for."""


class UnknownDataType(RowError):
    """A medium that is neither video nor image, such as sound."""


class MisplacedMedia(RowError):
    """A text that holds more ``<video>`` or ``<image>`` markers than there are media, or fewer."""

    remedy = "correct its markers or its path, or drop the row"


class BadOptions(RowError):
    """Options that do not fit the problem type, or that do not hold the answer."""


class Duplicate(RowError):
    """A row that a benchmark has as well, left out on request."""

    remedy = "drop it from the file of exclude to keep it"


class MissingExtra(KtrError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str, hint: str = ""):
        super().__init__(f"{package} is not installed: pip install 'ktr[{extra}]'{hint}")


class StorageError(KtrError):
    """A file or folder that cannot be written or read: a full disk, a quota, a right that is missing, a broken disk."""


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an ``OSError`` of what is done to a file the file's name, which only ``open`` does by itself."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


class JudgeError(KtrError):
    """A served judge refuses its requests, or leaves too many completions unjudged. The run can be resumed."""

    def __init__(self, address: str, reason: str):
        remedy = "see to it, and start again: a run goes on from its last checkpoint"
        super().__init__(f"the judge at {address}: {reason}; {remedy}")
        self.reason = reason


class EndpointError(KtrError):
    """A served model that is asked refuses all requests, or does not answer. The run can be resumed."""

    def __init__(self, address: str, reason: str):
        remedy = "see to it, and start the same command again: items that are answered are not asked again"
        super().__init__(f"the endpoint at {address}: {reason}; {remedy}")
        self.reason = reason


class SpendingLimit(KtrError):
    """A run has spent what it may. It can be resumed."""

    def __init__(self, spent: float, limit: float):
        super().__init__(
            f"{spent:.4f} dollars are spent, and endpoint.spending_limit={limit:g}: start the same command again to "
            "spend as much once more, or raise the limit; items that are answered are not asked again"
        )
        self.spent, self.limit = spent, limit


class EngineError(KtrError):
    """A rollout engine refuses the model, died, hung or gave an incomplete answer. The run can be resumed."""

    def __init__(self, engine: str, reason: str, remedy: str):
        super().__init__(f"{engine}: {reason}; {remedy}")
        self.engine, self.reason = engine, reason
