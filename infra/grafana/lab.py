"""The running experiment: phases and faults as marks, and the variant under test beside them."""

from __future__ import annotations

from infra.grafana.http_panels import EVERY, red, saturation
from infra.grafana.parts import Annotation, Board, Query, rows, series

LAB = Board(
    uid="lab",
    title="Running lab",
    description="What the experiment does now: phases, faults and how the variant under test fares. Empty while no lab runs.",
    tags=("lab", "experiment"),
    annotations=(
        Annotation("Phases", "lab_phase == 1", "{{lab}} {{variant}}: {{phase}}", "blue"),
        Annotation("Faults", "lab_fault_active == 1", "{{fault}} {{target}}", "red"),
    ),
    rows=(
        (
            "The experiment",
            (
                rows(
                    "Now",
                    "The phase that the running lab is in.",
                    "short",
                    Query("lab_phase == 1"),
                    width=12,
                ),
                series(
                    "Faults",
                    "1 while a fault is injected.",
                    "short",
                    Query("max by (fault, target) (lab_fault_active)", "{{fault}} {{target}}"),
                    most=1,
                    width=12,
                ),
                series(
                    "Phases",
                    "1 for the phase that the lab is in.",
                    "short",
                    Query("max by (variant, phase) (lab_phase)", "{{variant}} {{phase}}"),
                    most=1,
                    width=24,
                ),
            ),
        ),
        ("Processes under test", red(EVERY)),
        ("Saturation", saturation(EVERY)),
    ),
)
