"""GROUND. The rubrics (`*.jinja`) and the code that finds, checks and renders them. No database, no HTTP.

Imported by critic, dashboards and api; imports none of them, nor ingest.
Data comes from files under version control and a call's fields, and goes out as text for a critic.
"""

from rubrics.calls import AppliesTo, CallView
from rubrics.errors import BadRubric, Problem, RubricError
from rubrics.fences import new_fence
from rubrics.loading import Rubric, load_rubric, load_rubrics, read_folder, rubric_names, rubric_of
from rubrics.messages import text_of
from rubrics.rendering import Shown

__all__ = [
    "AppliesTo",
    "BadRubric",
    "CallView",
    "Problem",
    "Rubric",
    "RubricError",
    "Shown",
    "load_rubric",
    "load_rubrics",
    "new_fence",
    "read_folder",
    "rubric_names",
    "rubric_of",
    "text_of",
]
