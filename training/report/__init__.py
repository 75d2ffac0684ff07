"""A page to read and to show to a colleague: what a model was made of, and how good it is.

    write_report(folder / "index.html", Report(title=…, verdict=…, evaluation=evaluation_section(…), …))

Every section is optional. The page holds its pictures and needs neither network nor JavaScript.
"""

from training.report.content import (
    ClassShare,
    DatasetSection,
    EvaluationSection,
    Exhibit,
    Fact,
    FileEntry,
    Picture,
    Report,
    TrainingSection,
)
from training.report.folder import write_evaluation
from training.report.page import write_report
from training.report.pictures import prediction_pictures, worst_pictures
from training.report.sections import dataset_section, evaluation_section, training_section, verdict
from training.report.training_log import read_loss_curve

__all__ = [
    "ClassShare",
    "DatasetSection",
    "EvaluationSection",
    "Exhibit",
    "Fact",
    "FileEntry",
    "Picture",
    "Report",
    "TrainingSection",
    "dataset_section",
    "evaluation_section",
    "prediction_pictures",
    "read_loss_curve",
    "training_section",
    "verdict",
    "worst_pictures",
    "write_evaluation",
    "write_report",
]
