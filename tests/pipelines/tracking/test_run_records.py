"""What the tracking server is told of an experiment, when it is told, and by whom."""

from pipelines.tracking.recording import finished_result, send_records
from pipelines.tracking.tracker import NOTE_TAG, PARENT_TAG, Tracker
from setr.planning.planned import Planned
from setr.settings.config import Config, TrackingConfig

Told = tuple[Config, Planned, Tracker]
LATER = {"git.commit": "d" * 40, "git.dirty": "true"}


def send_elsewhere(entry: Planned, name: str) -> dict[str, str]:
    """Sends the record to another experiment in a later session; returns the run's tags."""
    tracker = Tracker(TrackingConfig(experiment=name), entry.folder.parent.parent)
    send_records(tracker, tracker.start_parent("later", LATER, ""), [entry])
    [run] = tracker.find(entry.identity)
    return dict(run.tags)


def test_a_record_sent_later_keeps_the_commit_it_was_trained_with(told: Told) -> None:
    _, entry, _ = told
    tags = send_elsewhere(entry, "later")
    assert tags["git.commit"] == "c" * 40
    assert tags["git.dirty"] == "false"


def test_the_folder_knows_its_run(told: Told) -> None:
    _, entry, tracker = told
    [run] = tracker.find(entry.identity)
    result = finished_result(entry)
    assert (result.run_id, result.run_url) == (run.run_id, run.url)
    assert result.tags[PARENT_TAG] == run.tags[PARENT_TAG]
    assert result.tags["git.commit"] == "c" * 40
    assert len(result.scores["ss"]["manifest"]) == 64


def test_a_run_says_what_it_is_and_groups_its_metrics(told: Told) -> None:
    _, entry, tracker = told
    [run] = tracker.find(entry.identity)
    note = run.tags[NOTE_TAG]
    assert "- `table2/setr-pup-random/40k`: the paper prints 42.27" in note
    assert "trace table2/setr-pup-random/40k --verify" in note
    assert {name.split("/")[0] for name in run.metrics} == {"train", "val", "final"}
    assert {"train/loss", "train/loss/main", "val/mIoU", "final/ss/mIoU"} <= set(run.metrics)
    described = tracker.client.get_experiment_by_name("setr-tables").tags
    assert "setr.variant" in described[NOTE_TAG]


def test_nothing_is_registered_where_the_setting_says_so(told: Told) -> None:
    _, entry, tracker = told
    assert len(tracker.client.search_model_versions()) == 1
    send_elsewhere(entry, "unregistered")
    assert len(tracker.client.search_model_versions()) == 1
