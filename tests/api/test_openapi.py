"""The OpenAPI document is what the server does: schemathesis finds no crash and no undocumented answer."""
import os
import subprocess
import sys

# What is not set up here answers 501, as documented, and a model that is overloaded 503.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501, 503]
"""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def run(server, tmp_path, *args):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    tool = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    result = subprocess.run([tool, "run", server.base + "/openapi.json", "--checks", CHECKS, "--request-timeout", "20",
                             "--suppress-health-check", "all", "--seed", "1", *args], cwd=tmp_path,
                            capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout[-8000:]
    with server.client() as http:
        assert http.get("/health").status_code == 200


def test_everything_with_scripted_models(fake, tmp_path):
    run(fake, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--continue-on-failure")


def test_files_and_batches(fake_factory, tmp_path):
    (tmp_path / "data").mkdir()
    server = fake_factory(env={"FAKE_DATA": str(tmp_path / "data")})
    run(server, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--continue-on-failure",
        "--include-path-regex", "^/v1/(files|uploads|batches)")


def test_documents(fake_factory, tmp_path):
    (tmp_path / "data").mkdir()
    server = fake_factory(env={"FAKE_DATA": str(tmp_path / "data"), "FAKE_DOCS": "1"})
    run(server, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--continue-on-failure",
        "--include-path-regex", "^/v1/(vector_stores|rag/(documents|collections))")


def test_pages(fake):
    with fake.client() as http:
        document = http.get("/openapi.json").json()
        page = http.get("/docs")
    assert document["openapi"].startswith("3.1") and len(document["paths"]) > 50
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text and "https://" not in page.text  # works offline
