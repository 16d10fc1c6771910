"""What ranks above what: field weights, bounded boosts, business rules, personal taste, experiments. Pure: no driver, no I/O.

text = text_query(parsed, language, ranking.weights, synonyms)       # services/search/query/build.py
query = apply_rules(ranked(text, ranking, context), effect)
"""

from services.search.ranking.boosts import Context, Signals
from services.search.ranking.experiment import Arm, Experiment
from services.search.ranking.personal import Affinity, Interaction, Kind, personal
from services.search.ranking.ranking import (
    DEFAULT,
    MOST_SPREAD,
    RANKINGS,
    Ranking,
    ranked,
)
from services.search.ranking.rules import Action, Effect, Rule, apply_rules, effect_of

__all__ = [
    "DEFAULT",
    "MOST_SPREAD",
    "RANKINGS",
    "Action",
    "Affinity",
    "Arm",
    "Context",
    "Effect",
    "Experiment",
    "Interaction",
    "Kind",
    "Ranking",
    "Rule",
    "Signals",
    "apply_rules",
    "effect_of",
    "personal",
    "ranked",
]
