"""Two W&B workspaces from the table of panels: one for runs, one for sweeps, grouped by table row and seed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktr.errors import ConfigError, MissingExtra
from ktr.record.panels import Panel, sections

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAMES = {"runs": "ktr", "sweep": "ktr: sweep"}
WINDOW = 20  # steps that a curve is smoothed over, as the published ones are


def workspaces(place: str) -> dict[str, "Workspace"]:
    """The workspaces of ``entity/project``, nothing sent yet. Raises ``MissingExtra`` without wandb-workspaces."""
    entity, _, project = place.partition("/")
    if not entity or not project or "/" in project:
        raise ConfigError(f"{place}: give entity/project, as W&B shows it in the address of a run")
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise MissingExtra("wandb-workspaces", "analysis") from error
    settings = {
        "runs": ws.RunsetSettings(),
        "sweep": ws.RunsetSettings(groupby=[ws.Config("table.row"), ws.Config("seed")]),
    }
    return {
        kind: ws.Workspace(
            entity=entity,
            project=project,
            name=name,
            sections=[
                ws.Section(name=section, panels=[_line_plot(panel) for panel in panels], is_open=True)
                for section, panels in sections().items()
            ],
            settings=ws.WorkspaceSettings(x_axis="step", smoothing_type="none"),
            runset_settings=settings[kind],
        )
        for kind, name in NAMES.items()
    }


def specification(workspace: "Workspace") -> dict[str, Any]:
    """What W&B would be sent."""
    return workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def _line_plot(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as wr

    plain = not any("*" in name or "{" in name for name in panel.names)
    return wr.LinePlot(
        title=panel.title,
        x="step",
        y=list(panel.names) if plain else [],
        metric_regex=None if plain else panel.pattern,
        smoothing_type="average",
        smoothing_factor=WINDOW,
        smoothing_show_original=True,
    )


def write_specifications(place: str, path: Path) -> Path:
    """Both workspaces as JSON."""
    import json

    found = {kind: specification(workspace) for kind, workspace in workspaces(place).items()}
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return path
