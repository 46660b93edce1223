"""What each step of the pipeline does: plain Python that never imports the orchestrator."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digits.labeling.champion import Champion

__all__ = ["Champion"]


def __getattr__(name: str) -> Any:
    """Import `Champion` when it is first used: every step imports this package."""
    if name == "Champion":
        from digits.labeling.champion import Champion

        return Champion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
