"""Modules of plain data, which commands import before they know whether they need torch."""

import subprocess
import sys

from model.system.process import python_command


def test_plain_data_needs_no_torch() -> None:
    modules = (
        "model.batch_translate",
        "model.decoding.engine_process",
        "model.decoding.request",
        "model.decoding.search_config",
        "model.translation",
        "model.version",
    )
    code = f"import {', '.join(modules)}, sys; sys.exit('torch' in sys.modules)"
    _, environment = python_command("model")
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)
