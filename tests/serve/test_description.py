"""schemathesis sends what the server's own description allows, and what it forbids."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.serve_process import serving

pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra `test`")

# A description cannot say that null is as good as nothing, nor which conversations make sense.
NOT_CHECKED = "negative_data_rejection,positive_data_acceptance"


@pytest.mark.slow
def test_no_request_makes_the_server_fail(served_image, tmp_path):
    """No 5xx, and no status, header or method that is not described; repeats itself."""
    with serving(served_image, "--max-tokens", "4") as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        command += [
            "--max-examples",
            "5",
            "--seed",
            "1",
            "--generation-deterministic",
            "--no-color",
        ]
        command += ["--exclude-checks", NOT_CHECKED]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        answered = [line["route"] for line in server.log() if line["status"] == 200]
        for route in ("/v1/chat/completions", "/v1/completions", "/generate", "/api/chat"):
            assert answered.count(route) >= 5, route
        assert not [line for line in server.log() if line["status"] >= 500]
        assert "Traceback" not in "".join(server.lines)
