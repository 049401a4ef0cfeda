"""Processes that are killed, or given another copy of the project: forked from one that has loaded the libraries.

Importing torch and MLflow anew takes longer than most of what they do. Nothing of the project is loaded there: a
fork server is one for all that a Python process starts, and some of its children import the project from elsewhere.
"""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
# torch._dynamo: every optimiser imports it.
LIBRARIES = ["numpy", "cv2", "yaml", "pyarrow", "torch", "torch._dynamo", "safetensors.torch", "timm", "mlflow"]
PROCESSES.set_forkserver_preload(LIBRARIES)
