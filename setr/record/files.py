"""The files of an experiment's folder, <storage>/<identity>/: which there are, who writes and who reads each.

| file | what | written by | read by |
|---|---|---|---|
| identity.json | what the folder trains, with library versions | training.resume | reading.read_identity_file |
| experiment.json | the experiment and its job | experiments.worker | reading.read_experiment_file |
| own-<file> | code of the user's own that the model runs | experiments.worker | evaluation.opened, after --allow-code |
| events.jsonl | the record of all attempts, a line an event | events.append_event | events.EventReader, read_events |
| trace.bin | what each step took in and gave | training.trace_writer | trace.read_trace |
| step-00000400/ | a checkpoint: checkpoint_names, checkpoint | training.training_run | checkpoint |
| evaluations.json | the scores during training, by step | training.training_run | reading.read_evaluations_file |
| areas-<protocol>.npz | counts by image and class | evaluation.areas | evaluation.areas |
| qualitative.png | images beside what was predicted | experiments.worker | (people) |
| scores.json | the final scores; written last | experiments.worker | reading.read_scores_file |
| proof.json | the scored checkpoint's hash, and its files' sizes and times then | ledger.remember | ledger.proven |
| equivalences.jsonl | codes that a replay has compared | equivalences.record | equivalences.comparisons |
| run.json | the tracked run | pipelines.tracking.recording | reading.read_run_file |
| .lease, *.lock | who owns the folder: lease, claims | lease.exclusive | claims |

A reader gives what is checked, or says in one error what is wrong with which file. Whoever looks at a value or two of
many folders, and can do without, takes reading.as_kept. Whether an experiment is done, ledger.state_of says.
"""

IDENTITY = "identity.json"
EXPERIMENT = "experiment.json"
EVENTS = "events.jsonl"
TRACE = "trace.bin"
EVALUATIONS = "evaluations.json"
PICTURE = "qualitative.png"
SCORES = "scores.json"
PROOF = "proof.json"
EQUIVALENCES = "equivalences.jsonl"
RUN = "run.json"


def own_name(source: str) -> str:
    """Returns the name of the file with the text of a source of the user's own (`mine.py:Name`)."""
    file = source.rpartition(":")[0]
    return f"own-{file.removesuffix('.py')}.py"


def areas_name(protocol: str) -> str:
    """Returns the name of the file with a protocol's counts by image and class."""
    return f"areas-{protocol}.npz"
