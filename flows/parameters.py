"""The flows' parameters: the choices in the run form, and the bounds checked before a run starts.

The choices are those that `prefect deploy` finds: after adding a spec or a recipe, run it or
`make up` again. Prefect takes the description of each parameter from the flows' docstrings.
"""

from typing import Annotated

from pydantic import Field

from digits.recipes import RECIPES
from digits.registry.needed import MIN_GRACE_HOURS
from digits.settings import Settings
from digits.spec import available_datasets

MODELS = tuple(dict.fromkeys(model for recipe in RECIPES.values() for model in recipe))

# Not Literals, since mypy cannot know names that are found at import time.
DatasetName = Annotated[
    str, Field(json_schema_extra={"enum": list(available_datasets(Settings()))})
]
ModelName = Annotated[str, Field(json_schema_extra={"enum": list(MODELS)})]
ModelNames = Annotated[
    list[ModelName], Field(min_length=1, json_schema_extra={"uniqueItems": True})
]
RecipeName = Annotated[str, Field(json_schema_extra={"enum": list(RECIPES)})]
Positive = Annotated[int, Field(ge=1)]
GraceHours = Annotated[int, Field(ge=MIN_GRACE_HOURS)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
