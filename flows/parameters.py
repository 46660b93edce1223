"""The flows' parameters: what the run form offers, and what is refused before a run starts.

The choices are those that `prefect deploy` finds: after a new spec or recipe, call it or `make up`
again. What each parameter means stands in the flows' docstrings, from which Prefect takes it.
"""

from typing import Annotated

from pydantic import Field

from digits.recipes import RECIPES
from digits.settings import Settings
from digits.spec import available_datasets

MODELS = tuple(dict.fromkeys(model for recipe in RECIPES.values() for model in recipe))

# No Literals, since mypy cannot know names that are only found when this is imported.
DatasetName = Annotated[
    str, Field(json_schema_extra={"enum": list(available_datasets(Settings()))})
]
ModelName = Annotated[str, Field(json_schema_extra={"enum": list(MODELS)})]
ModelNames = Annotated[
    list[ModelName], Field(min_length=1, json_schema_extra={"uniqueItems": True})
]
RecipeName = Annotated[str, Field(json_schema_extra={"enum": list(RECIPES)})]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
