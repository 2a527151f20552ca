"""Self-contained HTML pages, without scripts, from the templates beside this file."""

from base64 import b64encode

from jinja2 import Environment, PackageLoader, StrictUndefined


def page_environment() -> Environment:
    """Where templates are found; ``base64`` is a filter of files. Any text is escaped where it is shown: a question or
    an answer may hold what looks like HTML."""
    environment = Environment(
        loader=PackageLoader("ktr.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = lambda file: b64encode(file.read_bytes()).decode()
    return environment
