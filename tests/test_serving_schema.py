"""What the server's OpenAPI promises, held against its answers to requests that schemathesis makes up from it: nothing fails inside."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from served import write_colours
from sightline.config import ServeConfig
from sightline.serving.app import behind_the_guard, create_app
from sightline.serving.metrics import Metrics
from sightline.serving.models import Models
from sightline.serving.recording import AccessLog

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    config = ServeConfig(engine="onnxruntime", threads=1, allow_host="testserver")
    models = Models({"colours": write_colours(tmp_path_factory.mktemp("bundle") / "colours.sight")}, config, Metrics()).open()
    log = AccessLog(lambda line: None)
    yield schemathesis.openapi.from_asgi("/openapi.json", behind_the_guard(create_app(models, config), log))
    models.close()
    log.close()


OPERATIONS = ("POST /v1/predict", "GET /v1/models", "GET /healthz", "GET /readyz", "GET /metrics")
# What cannot be asked wrongly takes no parameter.
WAYS = [(operation, GenerationMode.POSITIVE) for operation in OPERATIONS] + [("POST /v1/predict", GenerationMode.NEGATIVE)]


@pytest.mark.parametrize(("operation", "mode"), WAYS)
def test_whatever_is_asked_is_answered_as_promised(schema, operation, mode):
    method, path = operation.split()

    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=40, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def asked(case):
        case.call_and_validate(checks=CHECKS)

    asked()
