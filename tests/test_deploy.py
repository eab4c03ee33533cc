"""The container file and the systemd unit keep what docs/security.md promises of them, and call the command line as it is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sightline.flags import app

ROOT = Path(__file__).parents[1]
UNIT, CONTAINER, IGNORED = (ROOT / "deploy" / name for name in ("sightline.service", "Containerfile", "Containerfile.dockerignore"))


def instructions():
    """The container file's instructions by stage, as (word, rest)."""
    lines = [line for line in CONTAINER.read_text().splitlines() if not line.startswith("#")]
    stages = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word:
            stages[-1].append((word, " ".join(rest.split())))
    return stages


def settings():
    """The unit's settings: every value of a name, in order."""
    found = {}
    for line in UNIT.read_text().splitlines():
        if re.match("[A-Za-z]+=", line):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def of(stage, word):
    return [rest for name, rest in stage if name == word]


def test_both_call_the_command_line_as_it_is():
    """A flag that is gone or was renamed is refused by the parser that the command line has."""
    import sightline.cli  # noqa: F401  (registers the verbs)

    (started,), (usual,) = (of(instructions()[-1], word) for word in ("ENTRYPOINT", "CMD"))
    calls = [json.loads(started) + json.loads(usual), shlex.split(settings()["ExecStart"][0])]
    calls.append(["sightline", "serve", *re.findall(r"\((--allow-host \S+)\)", CONTAINER.read_text())[0].split(), "a.sight"])
    for program, *words in calls:
        assert Path(program).name == "sightline"
        command, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__name__ == "serve"
        assert len(bound.args) == 1
    with pytest.raises(Exception, match="--hots"):
        app.parse_args(["serve", "--hots", "x", "a.sight"], exit_on_error=False, print_error=False)


def test_the_container_runs_without_rights_and_builds_elsewhere():
    *_, build, final = instructions()
    (base,), (image,) = of(final, "FROM"), [rest.split(" AS ")[0] for rest in of(build, "FROM")]
    assert base == image
    assert base.endswith("-slim")
    user = of(final, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert f"--uid {user.split(':')[0]} " in " ".join(of(final, "RUN"))
    last = [word for word, _ in final]
    assert "RUN" not in last[last.index("USER") :]
    assert of(final, "COPY") == ["--from=build /opt/sightline /opt/sightline"]
    assert "ADD" not in last
    assert not re.search(r"apt|gcc|build-essential|pip install|curl|wget", " ".join(of(final, "RUN")))
    assert "uninstall --yes setuptools pip" in " ".join(of(build, "RUN"))


def test_the_container_writes_nowhere_but_in_tmp():
    final = instructions()[-1]
    named = dict(pair.split("=", 1) for pair in " ".join(of(final, "ENV")).split())
    assert named["XDG_CACHE_HOME"].startswith("/tmp/")
    assert named["PYTHONDONTWRITEBYTECODE"] == "1"
    assert not of(final, "VOLUME")
    for words in ("--read-only --tmpfs /tmp", "--cap-drop ALL", "--security-opt no-new-privileges", "/models:ro"):
        assert words in CONTAINER.read_text()


def health_check():
    """The command of the container that asks whether it is alive."""
    (check,) = of(instructions()[-1], "HEALTHCHECK")
    return json.loads(check.partition(" CMD ")[2])


def test_the_container_is_asked_whether_it_is_alive_at_its_own_port():
    final = instructions()[-1]
    (port,), (started,) = of(final, "EXPOSE"), of(final, "ENTRYPOINT")
    assert health_check()[:2] == ["python", "-c"]
    assert f"http://127.0.0.1:{port}/healthz" in health_check()[2]
    assert json.loads(started)[-1] == port


def test_what_the_container_is_built_from_is_there_and_nothing_else_is_sent():
    build = instructions()[0]
    copied = [name.removeprefix("./").rstrip("/") for rest in of(build, "COPY") for name in rest.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    first, *let_through = [line for line in IGNORED.read_text().splitlines() if not line.startswith("**")]
    assert first == "*"
    assert sorted(let_through) == sorted(f"!{name}" for name in copied)


def test_the_unit_keeps_its_promises():
    unit = settings()
    promised = {
        "DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "PrivateDevices": "yes", "PrivateUsers": "yes", "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes",
        "ProtectControlGroups": "yes", "CapabilityBoundingSet": "", "AmbientCapabilities": "", "RestrictNamespaces": "yes",
        "RestrictSUIDSGID": "yes", "SystemCallArchitectures": "native", "IPAddressDeny": "any", "IPAddressAllow": "localhost",
    }  # fmt: skip
    assert {name: unit.get(name) for name in promised} == {name: [value] for name, value in promised.items()}
    assert unit["SystemCallFilter"][0] == "@system-service"
    assert unit["SystemCallFilter"][1].startswith("~@privileged")
    assert set(unit["RestrictAddressFamilies"][0].split()) == {"AF_INET", "AF_INET6", "AF_UNIX"}
    assert re.fullmatch(r"\d+G", unit["MemoryMax"][0])
    assert "--host 127.0.0.1" in unit["ExecStart"][0]
    # A token on the command line could be read by every user of the machine.
    assert "--token" not in unit["ExecStart"][0]
    assert "ReadWritePaths" not in unit
    assert "User" not in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    copy = tmp_path / UNIT.name
    # The program need not be installed here for the rest to be looked at.
    copy.write_text(UNIT.read_text().replace("/opt/sightline/bin/sightline", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)], capture_output=True, text=True)
    if "unrecognized option" in judged.stderr:
        pytest.skip("this systemd-analyze judges running services only")
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]
