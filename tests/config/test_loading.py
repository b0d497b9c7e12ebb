"""Station and recipe files: defaults, and errors that say where, what and why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from inspector import __version__
from inspector.config import (
    Camera,
    GoodScores,
    Http,
    Overlays,
    Part,
    Preprocessing,
    Recipe,
    Security,
    Sockets,
    Threshold,
    Tls,
    WhenFull,
    dump_recipe,
    load_recipe,
    load_station,
    locate_field,
)
from inspector.errors import ConfigError, RecipeError
from inspector.sources.folder import FolderSettings
from inspector.sources.zmq import ZmqSettings
from inspector.types import PixelFormat

MINIMAL = "schema: 1\nstation: line-1\ncameras:\n  top: {}\n"
SHA = "ab" * 32


def write(folder: Path, text: str, name: str = "station.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def place_of(text: str, line: int, field: str) -> str:
    """LINE:COLUMN of a field's key, or of a list's first item, in a line; of the key above it where it is missing."""
    found = text.splitlines()[line - 1]
    above, _, key = field.rpartition(".")
    if key == "(file)":
        return f"{line}:1"
    if key == "0":
        return f"{line}:{found.index('[') + 2}"
    match = re.search(rf"\b{key}:", found) or re.search(rf"\b{above.rpartition('.')[2]}:", found)
    return f"{line}:{match.start() + 1}"


def fault_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_station(path)
    assert type(caught.value) is ConfigError
    return str(caught.value)


def test_station_has_documented_defaults_when_the_file_is_minimal(tmp_path: Path) -> None:
    station = load_station(write(tmp_path, MINIMAL))
    assert station.schema_version == 1
    assert station.station == "line-1"
    assert station.state_dir == Path("/var/lib/inspector")
    assert station.device == "auto"
    assert station.sockets == Sockets(
        frames="tcp://127.0.0.1:5555",
        results="tcp://127.0.0.1:5556",
        overlays="tcp://127.0.0.1:5557",
        requests="tcp://127.0.0.1:5558",
        imagezmq="tcp://127.0.0.1:5559",
        max_message=536_870_912,
        open_without_authentication=False,
    )
    assert station.http == Http(host="127.0.0.1", port=9108)
    assert station.buffer.max_bytes == 1_073_741_824
    assert station.buffer.when_full is WhenFull.DROP_OLDEST
    assert station.overlays == Overlays(frames="fail", width=1280, quality=85)
    assert station.tile_batch is None
    assert station.stop_timeout_s == 10.0
    assert list(station.cameras) == ["top"]
    camera = station.cameras["top"]
    assert (camera.recipe, camera.deadline_ms, camera.simulated) == (None, 2000, False)
    assert camera.source == ZmqSettings(type="zmq", pixel_format=PixelFormat.RGB8)


def test_paths_become_relative_to_the_files_folder_when_relative(tmp_path: Path) -> None:
    text = (
        "schema: 1\nstation: a\nstate_dir: state\ncameras:\n"
        "  one: {recipe: recipes/x, source: {type: folder, path: frames}}\n"
        "  two: {recipe: /abs/y, source: {type: folder, path: /abs/frames, watch: true}}\n"
    )
    station = load_station(write(tmp_path, text))
    assert station.state_dir == tmp_path / "state"
    assert station.cameras["one"].recipe == tmp_path / "recipes/x"
    assert station.cameras["one"].source == FolderSettings(type="folder", path=tmp_path / "frames")
    assert station.cameras["two"].recipe == Path("/abs/y")
    assert station.cameras["two"].source == FolderSettings(type="folder", path=Path("/abs/frames"), watch=True)


def test_sizes_are_bytes_when_written_with_units(tmp_path: Path) -> None:
    station = load_station(write(tmp_path, MINIMAL + "buffer: {max_bytes: 2GiB, when_full: block}\n"))
    assert station.buffer.max_bytes == 2 * 1024**3
    assert station.buffer.when_full is WhenFull.BLOCK


@pytest.mark.parametrize(
    ("text", "line", "field", "rule", "value"),
    [
        (MINIMAL + "colour: red\n", 5, "colour", "unknown key", "'red'"),
        (MINIMAL + "http: {prot: 80}\n", 5, "http.prot", "unknown key", "80"),
        (MINIMAL + "http:\n  host: h\n  port: many\n", 7, "http.port", "valid integer", "'many'"),
        (MINIMAL + "http:\n  host: 192.0.2.7\n", 5, "http", "host must be a loopback address, got '192.0.2.7'", ""),
        (MINIMAL + "http:\n  username: metrics\n", 5, "http", "username and password must be given together", ""),
        (MINIMAL + "http:\n  tls: {certificate: a.crt}\n", 6, "http.tls.key", "required, but missing", ""),
        (MINIMAL + "http:\n\n  port: 70000\n", 7, "http.port", "less than or equal to 65535", "70000"),
        (MINIMAL + "device: tpu\n", 5, "device", "match pattern", "'tpu'"),
        (MINIMAL + "tile_batch: 0\n", 5, "tile_batch", "greater than or equal to 1", "0"),
        (MINIMAL + "stop_timeout_s: .inf\n", 5, "stop_timeout_s", "finite", "inf"),
        (MINIMAL + "buffer: {when_full: explode}\n", 5, "buffer.when_full", "'block'", "'explode'"),
        ("schema: 2\nstation: a\ncameras: {c: {}}\n", 1, "schema", "newer inspector: upgrade inspector", "got 2;"),
        ("schema: 0\nstation: a b\n", 1, "schema", "write schema: 1 and compare the file with", "got 0;"),
        ("station: a\nschema: -1\n", 2, "schema", "the version that inspector", "got -1;"),
        ("schema: '1'\nstation: a\ncameras: {c: {}}\n", 1, "schema", "should be 1", "'1'"),
        ("schema: yes\nstation: a\ncameras: {c: {}}\n", 1, "schema", "must be a number", "True"),
        ("schema: 1\nstation: a b\ncameras: {c: {}}\n", 2, "station", "match pattern", "'a b'"),
        ("schema: 1\nstation: a\n\ncameras: {}\n", 4, "cameras", "at least 1 item", "{}"),
        (
            "schema: 1\nstation: a\ncameras:\n  c:\n    deadline_ms: 0\n",
            5,
            "cameras.c.deadline_ms",
            "greater than or equal to 1",
            "0",
        ),
        (
            "schema: 1\nstation: a\ncameras:\n  c:\n    max_age_ms: off\n",
            5,
            "cameras.c.max_age_ms",
            "must be a whole number of milliseconds from 1, or deadline, or null",
            "False",
        ),
        (
            "schema: 1\nstation: a\ncameras:\n  c:\n    source:\n      type: folder\n      path: x\n      poll_s: -1\n",
            8,
            "cameras.c.source.poll_s",
            "greater than 0",
            "-1",
        ),
        (
            "schema: 1\nstation: a\ncameras:\n  c:\n    source:\n      type: usb\n",
            5,
            "cameras.c.source",
            "expected tags",
            "'usb'",
        ),
        (MINIMAL + "sockets:\n  frames: localhost:1\n", 5, "sockets", "frames must be tcp://HOST:PORT", "localhost:1"),
        (
            MINIMAL + "sockets:\n  results: tcp://0.0.0.0:5556\n",
            5,
            "sockets",
            "results must be a loopback address",
            "tcp://0.0.0.0:5556",
        ),
    ],
)
def test_fault_names_file_line_field_rule_and_value_when_found(
    tmp_path: Path, text: str, line: int, field: str, rule: str, value: str
) -> None:
    path = write(tmp_path, text)
    message = fault_of(path)
    assert message.startswith(f"{path}:{place_of(text, line, field)}: {field}: ")
    assert rule in message
    assert value in message
    assert "\n" not in message
    assert message.count(", got ") <= 1  # the value at fault, not the section around it
    assert "Value error" not in message


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "station: a\ncameras: {c: {}}\n",
            f"1:1: schema: required, but missing; write schema: 1, the version that inspector {__version__} reads",
        ),
        ("schema: 1\ncameras: {c: {}}\n", "1:1: station: required, but missing"),
        ("station: a\nschema: 1\n", "1:1: cameras: required, but missing"),
        (
            "schema: 1\nstation: a\ncameras:\n  c:\n    source: {type: folder}\n",
            "5:5: cameras.c.source.path: required, but missing",
        ),
    ],
)
def test_fault_names_the_missing_key_when_required(tmp_path: Path, text: str, where: str) -> None:
    path = write(tmp_path, text)
    assert fault_of(path) == f"{path}:{where}"


def test_faults_come_one_per_line_when_there_are_several(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "tile_batch: 0\ncolour: red\nstation: b\n")
    first, second, third = fault_of(path).splitlines()
    assert first == f"{path}:7:1: station: must be given once, got it twice"
    assert second.startswith(f"{path}:5:1: tile_batch: ")
    assert third.startswith(f"{path}:6:1: colour: unknown key")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (MINIMAL + "station: b\n", "5:1: station: must be given once, got it twice"),
        ("schema: 1\nstation: a\ncameras:\n  c: {}\n  c: {}\n", "5:3: c: must be given once, got it twice"),
    ],
)
def test_duplicate_key_is_refused_when_given_twice(tmp_path: Path, text: str, where: str) -> None:
    path = write(tmp_path, text)
    assert fault_of(path) == f"{path}:{where}"


@pytest.mark.parametrize(("text", "kind"), [("- 1\n- 2\n", "list"), ("hello\n", "str"), ("", "NoneType")])
def test_file_is_refused_when_not_a_mapping(tmp_path: Path, text: str, kind: str) -> None:
    path = write(tmp_path, text)
    assert fault_of(path) == f"{path}:1:1: must be a mapping of keys to values, got {kind}"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("schema: 1\ncameras: [1\n", "3:1: not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\n b: 2\n", "2:3: not valid YAML: mapping values are not allowed here"),
        ("a:\n\t- 1\n", "2:1: not valid YAML: while scanning for the next token, found character '\\t'"),
        ("a: 1\nb: x\x00y\n", "2:5: not valid YAML: special characters are not allowed"),
        ("a: !!python/object/apply:os.system [ls]\n", "1:4: not valid YAML: could not determine a constructor"),
        pytest.param("\n? [a, b]\n: 1\n", "2:3: not valid YAML: ", id="list as a key"),
        pytest.param("schema: 1\nstation: 2024-13-45\n", "2:10: not valid YAML: month must be", id="impossible date"),
        pytest.param('schema: !!float ""\n', "1:9: not valid YAML: string index", id="float of nothing"),
        pytest.param("schema: !!bool x\n", "1:9: not valid YAML: 'x'", id="bool that is none"),
        pytest.param("schema: !!timestamp x\n", "1:9: not valid YAML: ", id="instant that is none"),
        pytest.param("a: &a [*a]\n", "1:1: not valid YAML: maximum recursion", id="endless alias"),
    ],
)
def test_file_is_refused_naming_the_place_when_not_usable_yaml(tmp_path: Path, text: str, where: str) -> None:
    path = write(tmp_path, text)
    message = fault_of(path)
    assert message.startswith(f"{path}:{where}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (MINIMAL + "stop_timeout: 3\n", "stop_timeout_s"),
        (MINIMAL + "schemas: 1\n", "schema"),
        (MINIMAL + "http: {prot: 80}\n", "port"),
        ("schema: 1\nstation: a\ncameras:\n  c: {recipes: x}\n", "recipe"),
        ("schema: 1\nstation: a\ncameras:\n  c: {source: {type: folder, path: x, pol_s: 1}}\n", "poll_s"),
        ("schema: 1\nstation: a\ncameras:\n  c: {source: {type: zmq, pixel_formt: RGB8}}\n", "pixel_format"),
        ("schema: 1\nstation: a\ncameras:\n  c: {source: {type: zmq, path: x}}\n", None),  # another source's key
        (MINIMAL + "colour: red\n", None),
    ],
)
def test_unknown_key_is_met_with_the_nearest_known_one_of_its_place(
    tmp_path: Path, text: str, meant: str | None
) -> None:
    message = fault_of(write(tmp_path, text))
    assert "unknown key" in message
    assert message.partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_environment_is_not_read_when_a_value_looks_like_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE", "/elsewhere")
    station = load_station(write(tmp_path, MINIMAL + "state_dir: ${STATE}/x\n"))
    assert station.state_dir == tmp_path / "${STATE}/x"


def test_field_is_located_in_a_file_that_loads(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "http: {host: '::1', port: 1}\n")
    assert locate_field(path, ("http", "port")) == f"{path}:5:21"
    assert locate_field(path, ("sockets", "frames")) == f"{path}:1:1"
    assert locate_field(path, ("cameras", "top", "recipe")) == f"{path}:4:3"


def test_file_is_refused_when_missing_or_not_text(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    assert fault_of(path).startswith(f"{path}: cannot be read: ")
    path.write_bytes(b"\xff\xfe\x00")
    assert fault_of(path).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "tcp://127.8.9.10:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///run/x"]
)
def test_endpoint_is_accepted_when_local(tmp_path: Path, endpoint: str) -> None:
    station = load_station(write(tmp_path, MINIMAL + f"sockets: {{frames: '{endpoint}'}}\n"))
    assert station.sockets.frames == endpoint


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://192.168.0.5:1", "tcp://[::]:1"])
def test_endpoint_is_accepted_when_open_and_declared(tmp_path: Path, endpoint: str) -> None:
    text = MINIMAL + f"sockets:\n  frames: '{endpoint}'\n"
    assert "frames must be a loopback address" in fault_of(write(tmp_path, text))
    assert "add a security section" in fault_of(write(tmp_path, text))
    for way in ("  open_without_authentication: true\n", "security: {}\n"):
        assert load_station(write(tmp_path, text + way)).sockets.frames == endpoint


def test_key_files_are_relative_to_the_station_file(tmp_path: Path) -> None:
    security = load_station(write(tmp_path, MINIMAL + "security: {}\n")).security
    assert security == Security(key=str(tmp_path / "keys" / "station.key"), clients=tmp_path / "keys" / "clients.yaml")
    security = load_station(write(tmp_path, MINIMAL + "security: {key: 'credential:station.key'}\n")).security
    assert security.key == "credential:station.key"


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1", "udp://127.0.0.1:1", "tcp://:1", "ipc://"])
def test_endpoint_is_refused_when_malformed(tmp_path: Path, endpoint: str) -> None:
    text = MINIMAL + f"sockets:\n  overlays: '{endpoint}'\n  open_without_authentication: true\n"
    message = fault_of(write(tmp_path, text))
    assert "overlays must be tcp://HOST:PORT or ipc://PATH" in message
    assert endpoint in message


# ---------------------------------------------------------------- cameras that would be fed by one sender


def write_cameras(folder: Path, one: str, other: str, *, names: tuple[str, str] = ("left", "right")) -> Path:
    """A station of two cameras with these sources, the other's on line 5."""
    lines = [f"  {name}: {{source: {{{source}}}}}\n" for name, source in zip(names, (one, other), strict=True)]
    return write(folder, "schema: 1\nstation: a\ncameras:\n" + "".join(lines))


def pi(sender: str) -> str:
    return f"type: imagezmq, sender: {sender}"


def frames(path: str) -> str:
    return f"type: folder, path: {path}"


def opened(device: str) -> str:
    return f"type: opencv, device: {device}"


@pytest.mark.parametrize(
    ("one", "other", "field", "rule"),
    [
        (pi("rpi-1"), pi("rpi-1"), "sender", "must not be the sender of camera left, got 'rpi-1'"),
        (
            pi("rpi-1"),
            pi("RPI-1"),
            "sender",
            "must not be mistaken for the sender of camera left ('rpi-1'), got 'RPI-1'",
        ),
        (
            pi('"caf\\u00e9"'),
            pi('"cafe\\u0301"'),
            "sender",
            "must not be mistaken for the sender of camera left ('café')",
        ),
        (pi('"rpi\\uff11"'), pi("rpi1"), "sender", "must not be mistaken for the sender of camera left ('rpi１')"),
        ("type: zmq", pi("left"), "sender", "must not be the name of camera left, got 'left'"),
        ("type: zmq", pi("Left"), "sender", "must not be mistaken for the name of camera left ('left'), got 'Left'"),
        ("type: imagezmq", pi("left"), "sender", "must not be the name of camera left, got 'left'"),
        (frames("in"), pi("left"), "sender", "must not be the name of camera left, got 'left'"),
        (frames("in"), frames("in"), "path", "must not be the folder of camera left, got 'in'"),
        (frames("in"), frames("a/../in/"), "path", "must not be mistaken for the folder of camera left ('in'), got"),
        (opened("0"), opened("0"), "device", "must not be the device of camera left, got 0"),
        (opened("0"), opened("/dev/video0"), "device", "must not be mistaken for the device of camera left (0), got"),
        (
            opened("rtsp://cam/1"),
            opened("'rtsp://cam/1 '"),
            "device",
            "must not be mistaken for the device of camera left",
        ),
        (opened("clip.avi"), opened("./clip.avi"), "device", "must not be mistaken for the device of camera left"),
    ],
)
def test_second_camera_is_refused_by_line_and_both_names_when_both_would_be_fed_by_one_sender(
    tmp_path: Path, one: str, other: str, field: str, rule: str
) -> None:
    path = write_cameras(tmp_path, one, other)
    column = path.read_text().splitlines()[4].index(f"{field}:") + 1
    message = fault_of(path)
    assert message.startswith(f"{path}:5:{column}: cameras.right.source.{field}: {rule}")
    assert "\n" not in message


def test_folder_is_the_same_when_one_path_is_relative_to_the_file_and_the_other_absolute(tmp_path: Path) -> None:
    path = write_cameras(tmp_path, frames("in"), frames(str(tmp_path / "in")))
    assert "must not be mistaken for the folder of camera left ('in'), got" in fault_of(path)


def test_sender_is_at_fault_and_not_the_camera_that_is_named_below_it(tmp_path: Path) -> None:
    path = write_cameras(tmp_path, pi("right"), "type: zmq")
    assert (
        fault_of(path) == f"{path}:4:35: cameras.left.source.sender: must not be the name of camera right, got 'right'"
    )


def test_cameras_are_refused_when_their_names_differ_in_case_only(tmp_path: Path) -> None:
    path = write_cameras(tmp_path, "type: zmq", "type: zmq", names=("top", "TOP"))
    assert (
        fault_of(path) == f"{path}:5:3: cameras.TOP: must not be mistaken for the name of camera top ('top'), got 'TOP'"
    )


def test_all_cameras_that_share_a_source_are_named_when_there_are_several(tmp_path: Path) -> None:
    cameras = {"a": pi("x"), "b": pi("x"), "c": pi("x"), "d": frames("in"), "e": frames("in")}
    text = "".join(f"  {name}: {{source: {{{source}}}}}\n" for name, source in cameras.items())
    faults = fault_of(write(tmp_path, "schema: 1\nstation: a\ncameras:\n" + text)).splitlines()
    assert [line.split(": ")[1] for line in faults] == [
        "cameras.b.source.sender", "cameras.c.source.sender", "cameras.e.source.path",
    ]  # fmt: skip


def test_shared_stream_is_named_without_its_password(tmp_path: Path) -> None:
    stream = opened("'rtsp://anna:tr0ub4dor@cam/1'")
    message = fault_of(write_cameras(tmp_path, stream, stream))
    assert "must not be the device of camera left, got 'rtsp://***@cam/1'" in message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pi("rpi-1"), pi("rpi-2")),
        (pi("left"), pi("right")),  # each its own name
        ("type: imagezmq", pi("rpi")),
        (frames("in"), frames("in/right")),  # a source does not look into folders of its folder
        (opened("0"), opened("1")),
        (opened("rtsp://cam/1"), opened("rtsp://cam/2")),
        ("type: zmq", "type: imagezmq"),
    ],
)
def test_cameras_are_accepted_when_each_has_a_sender_of_its_own(tmp_path: Path, one: str, other: str) -> None:
    assert list(load_station(write_cameras(tmp_path, one, other)).cameras) == ["left", "right"]


@pytest.mark.parametrize("sender", ['""', '" pi"', '"pi "', '"pi\\u200b"', '"pi\\n"', "x" * 201])
def test_sender_is_refused_when_people_could_not_see_what_it_is(tmp_path: Path, sender: str) -> None:
    message = fault_of(write_cameras(tmp_path, "type: zmq", pi(sender)))
    assert ":5:36: cameras.right.source.sender: " in message


# ---------------------------------------------------------------- recipe


def recipe_of(**changes: Any) -> Recipe:
    values = {"recipe_id": "r1", "backbone": "resnet18", "weights_sha256": SHA}
    return Recipe.model_validate(values | changes)


def golden_text(file: str, verdict: str = "PASS", more: str = "") -> str:
    return f"golden:\n- file: {file}\n  sha256: {SHA}\n  verdict: {verdict}\n" + (f"  {more}\n" if more else "")


def recipe_fault(folder: Path, text: str) -> str:
    write(folder, text, "recipe.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(folder)
    return str(caught.value)


def test_recipe_has_documented_defaults_when_minimal() -> None:
    recipe = recipe_of()
    assert recipe.layers == ("layer1", "layer2", "layer3")
    assert (recipe.bottleneck_width, recipe.student) == ("official", "full")
    assert (recipe.anomaly_map_mode, recipe.sigma) == ("add", 4.0)
    assert (recipe.tiling.tile_size, recipe.tiling.stride, recipe.min_region_area) == (256, 256, 1)
    assert recipe.preprocessing.pixel_format is PixelFormat.RGB8
    assert recipe.preprocessing.normalisation.mean == (0.485, 0.456, 0.406)
    assert recipe.preprocessing.normalisation.std == (0.229, 0.224, 0.225)
    assert recipe.threshold is None


def test_recipe_is_the_same_when_dumped_and_loaded(tmp_path: Path) -> None:
    recipe = recipe_of(
        sigma=2.5,
        preprocessing={"pixel_format": "Mono16", "frame_hw": [480, 640], "scale": 0.5, "mono16_range": [10, 4095]},
        tiling={"tile_size": 128, "stride": 96},
        threshold={
            "value": 0.1 + 0.2,
            "method": "generalised_pareto",
            "warn_above": 0.2,
            "n_good": 40,
            "target_false_reject_rate": 1e-3,
            "tail": {"location": 0.1, "scale": 0.3, "shape": -0.1, "exceedances": 10, "rate_interval": [0, 0.02]},
            "groups": {
                "n_groups": 3,
                "false_reject_rate": 0.0,
                "interval": [0, 0.1],
                "worst_group": "a",
                "worst_false_reject_rate": 0.0,
            },
            "escape_interval": [0.1, 0.4],
        },
        zones=[{"name": "seam", "mask": "z.png", "mask_sha256": SHA, "threshold": {"value": 2, "method": "manual"}}],
        golden=[
            {"file": "golden/good-1.png", "sha256": SHA, "verdict": "PASS", "score": 0.1 + 0.2},
            {"file": "golden/bad-1.jpg", "sha256": SHA, "verdict": "FAIL"},
        ],
        roi_mask="roi.png",
        roi_mask_sha256=SHA,
        training={"steps": 10, "was": "größer"},
        versions={"torch": "2.6"},
    )
    text = dump_recipe(recipe)
    write(tmp_path, text, "recipe.yaml")
    assert load_recipe(tmp_path) == recipe
    assert yaml.safe_load(text)["schema"] == 1
    assert "größer" in text


@pytest.mark.parametrize(
    ("extra", "line", "field", "rule", "value"),
    [
        (
            "tiling:\n  tile_size: 64\n  stride: 65\n",
            5,
            "tiling",
            "stride must be at most tile_size (64)",
            "65",
        ),
        ("tiling:\n  tile_size: 100\n", 6, "tiling.tile_size", "multiple of 32", "100"),
        ("preprocessing:\n  mono16_range: [9, 9]\n", 6, "preprocessing.mono16_range", "below the high end", "[9, 9]"),
        ("preprocessing:\n  frame_hw: [0, 9]\n", 6, "preprocessing.frame_hw.0", "greater than or equal to 1", "0"),
        ("preprocessing:\n  pixel_format: RGB9\n", 6, "preprocessing.pixel_format", "'RGB8'", "'RGB9'"),
        ("threshold: {value: 0, method: manual}\n", 5, "threshold.value", "greater than 0", "0"),
        ("threshold: {value: .inf, method: manual}\n", 5, "threshold.value", "finite", "inf"),
        ("threshold: {value: .nan, method: manual}\n", 5, "threshold.value", "finite", "nan"),
        ("sigma: .inf\n", 5, "sigma", "finite", "inf"),
        ("roi_mask: m.png\n", 1, "(file)", "must be given together", "m.png"),
        ("threshold: {value: 2, warn_above: 2, method: manual}\n", 5, "threshold", "must lie below value (2.0)", "2"),
        ("threshold: {value: 2, method: guess}\n", 5, "threshold.method", "'gumbel'", "guess"),
        (f"zones:\n- &z {{name: a, mask: a.png, mask_sha256: {SHA}}}\n- *z\n", 5, "zones", "a unique name", "'a'"),
        (golden_text("golden/a.png", "ERROR"), 8, "golden.0.verdict", "'PASS' or 'FAIL'", "ERROR"),
        (golden_text("golden/a.png", "PASS", "score: .nan"), 9, "golden.0.score", "finite", "nan"),
        (golden_text("golden/a.png") + golden_text("golden/a.png")[8:], 5, "golden", "its own file", "a.png"),
        ("threshhold: 3\n", 5, "threshhold", "unknown key", "3"),
    ],
)
def test_recipe_fault_names_file_line_field_rule_and_value_when_found(
    tmp_path: Path, extra: str, line: int, field: str, rule: str, value: str
) -> None:
    text = f"schema: 1\nrecipe_id: r\nbackbone: resnet18\nweights_sha256: {SHA}\n" + extra
    message = recipe_fault(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'recipe.yaml'}:{place_of(text, line, field)}: {field}: ")
    assert rule in message
    assert value in message


@pytest.mark.parametrize(
    "file",
    ["/etc/shadow", "../good.png", "golden/../weights.safetensors", "golden/..", "weights.safetensors", "golden/",
     "golden/a/b.png", "golden/.hidden", "golden/a\\\\b.png", "golden/a\\0.png", "golden/a.png\\n"],
)  # fmt: skip
def test_golden_frame_is_refused_when_its_file_lies_elsewhere(tmp_path: Path, file: str) -> None:
    text = f"schema: 1\nrecipe_id: r\nbackbone: resnet18\nweights_sha256: {SHA}\n" + golden_text(f'"{file}"')
    message = recipe_fault(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'recipe.yaml'}:6:3: golden.0.file: String should match pattern")


def test_recipe_is_refused_when_the_folder_is_empty(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: cannot be read"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            "schema: 2\n",
            "2:1: schema: must be 1, the version that inspector {} reads, got 2; the file was written for a newer",
        ),
        ("", "1:1: schema: required, but missing; write schema: 1, the version that inspector {} reads"),
    ],
)
def test_recipe_of_another_version_is_refused_saying_what_to_do(tmp_path: Path, schema: str, message: str) -> None:
    text = f"recipe_id: r\n{schema}backbone: resnet18\nweights_sha256: {SHA}\n"
    assert recipe_fault(tmp_path, text).startswith(f"{tmp_path / 'recipe.yaml'}:{message.format(__version__)}")


def test_recipe_of_before_zones_and_warn_bands_still_loads(tmp_path: Path) -> None:
    text = (
        f"schema: 1\nrecipe_id: r\nbackbone: resnet18\nweights_sha256: {SHA}\nmin_region_area: 1\nroi_mask: null\n"
        "threshold:\n  value: 12.5\n  method: gumbel\n  n_good: 12\n  target_false_reject_rate: 0.01\n"
        "  false_reject_bound: 0.22\n  escape_rate: 0.1\n  n_defective: 10\n"
    )
    write(tmp_path, text, "recipe.yaml")
    recipe = load_recipe(tmp_path)
    assert recipe.threshold is not None
    assert (recipe.threshold.value, recipe.threshold.method, recipe.threshold.warn_above) == (12.5, "gumbel", None)
    assert (recipe.threshold.tail, recipe.threshold.groups, recipe.zones) == (None, None, ())
    assert recipe.threshold.good_scores is None


def test_good_scores_are_refused_when_their_quantiles_are_not_in_order() -> None:
    with pytest.raises(ValidationError, match=r"p95 must be at least median \(2\.0\), got 1\.0"):
        GoodScores(median=2.0, p95=1.0)


@pytest.mark.parametrize("value", [0, -1, "fast", float("inf"), float("nan")])
def test_expected_fps_is_refused_when_it_is_no_rate(value: object) -> None:
    assert Camera(expected_fps=0.1).expected_fps == 0.1
    with pytest.raises(ValidationError, match="expected_fps"):
        Camera.model_validate({"expected_fps": value})


@pytest.mark.parametrize(
    ("written", "limit_ms"),
    [({}, 300), ({"max_age_ms": "deadline"}, 300), ({"max_age_ms": 7}, 7), ({"max_age_ms": None}, None)],
)
def test_age_limit_is_the_deadline_unless_the_file_has_a_number_or_null(
    written: dict[str, Any], limit_ms: int | None
) -> None:
    assert Camera.model_validate({"deadline_ms": 300} | written).age_limit_ms == limit_ms


def test_threshold_is_frozen_when_set() -> None:
    threshold = Threshold(value=1.0, method="manual")
    with pytest.raises(ValueError, match="frozen"):
        threshold.value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("ways", "named"),
    [
        ({"scale": 0.5, "resize_hw": (256, 256)}, r"scale 0\.5, resize_hw \(256, 256\)"),
        ({"scale": 0.5, "short_side": 256}, r"scale 0\.5, short_side 256"),
        ({"resize_hw": (256, 256), "short_side": 256}, r"resize_hw \(256, 256\), short_side 256"),
    ],
)
def test_frames_are_scaled_in_one_way_only(ways: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=f"at most one of scale, resize_hw, short_side may be given, got {named}"):
        Preprocessing(**ways)


@pytest.mark.parametrize("short_side", [31, 4097])
def test_short_side_is_refused_when_no_tile_has_such_a_side(short_side: int) -> None:
    with pytest.raises(ValidationError, match="short_side"):
        Preprocessing(short_side=short_side)


PROTECTED = {
    "host": "0.0.0.0",
    "tls": {"certificate": "http.crt", "key": "keys/http.key"},
    "username": "metrics",
    "password": "credential:http-password",
}


@pytest.mark.parametrize("missing", ["tls", "username password", "tls username password"])
def test_http_is_refused_beyond_loopback_unless_it_has_tls_and_a_login_or_says_so_in_words(missing: str) -> None:
    Http.model_validate(PROTECTED)
    half = {key: value for key, value in PROTECTED.items() if key not in missing.split()}
    for host in ("0.0.0.0", "::", "192.0.2.7", "press-3.example"):
        with pytest.raises(ValueError, match=f"host must be a loopback address, got '{host}'"):
            Http.model_validate(half | {"host": host})
    Http.model_validate(half | {"open_without_authentication": True})
    for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1"):
        Http.model_validate(half | {"host": host})


def test_http_files_become_relative_to_the_station_file_and_other_secrets_stay(tmp_path: Path) -> None:
    station = load_station(write(tmp_path, MINIMAL + f"http: {PROTECTED}\n"))
    assert station.http.tls == Tls(certificate=tmp_path / "http.crt", key=str(tmp_path / "keys/http.key"))
    assert station.http.password == "credential:http-password"


@pytest.mark.parametrize("source", [{"type": "zmq"}, {"type": "imagezmq"}])
def test_camera_that_listens_may_be_fired_by_software(source: dict[str, Any]) -> None:
    assert Camera.model_validate({"source": source, "triggers": "software"}).triggers == "software"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"triggers": "software"}, "must be left out unless triggers is hardware, got 100"),
        ({}, "must be left out unless triggers is hardware, got 100"),
        ({"triggers": "hardware", "deadline_ms": 100}, "must be less than deadline_ms, 100: no time is left to judge"),
    ],
)
def test_frames_wait_for_announcements_only_of_hardware_and_within_the_deadline(
    fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        Camera.model_validate({"announce_within_ms": 100} | fields)
    kept = {"announce_within_ms": 100, "triggers": "hardware", "deadline_ms": 101}
    assert Camera.model_validate(kept).announce_within_ms == 100


def test_camera_that_cannot_be_fired_is_refused_at_load_and_may_have_hardware_triggers() -> None:
    source = {"type": "opencv", "device": 0}
    with pytest.raises(ValueError, match=r"software needs a source of type zmq or imagezmq, .* got opencv"):
        Camera.model_validate({"source": source, "triggers": "software"})
    assert Camera.model_validate({"source": source, "triggers": "hardware"}).triggers == "hardware"


PART = "parts: {body: {cameras: [top, left], window_ms: 2000}}"


def write_parts(folder: Path, parts: str, right: str = "source: {type: zmq}") -> Path:
    path = folder / "station.yaml"
    path.write_text(f"schema: 1\nstation: press-3\ncameras: {{top: {{}}, left: {{}}, right: {{{right}}}}}\n{parts}\n")
    return path


def test_parts_have_their_cameras_id_and_window(tmp_path: Path) -> None:
    station = load_station(write_parts(tmp_path, PART))
    assert station.parts == {"body": Part(cameras=("top", "left"), by="part_id", window_ms=2000)}
    assert station.deadlines_ms == {"top": 2000, "left": 2000, "right": 2000, "part/body": 2000}


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ("body: {cameras: [top, left], window_ms: 1999}",
         "4:38: parts.body.window_ms: must be at least cameras.top.deadline_ms, 2000, got 1999"),
        ("body: {cameras: [top, rear], window_ms: 2000}",
         "4:16: parts.body.cameras: must be cameras of this station, ['top', 'left', 'right'], got rear"),
        ("a: {cameras: [top, left], window_ms: 2000}, b: {cameras: [left, right], window_ms: 2000}",
         "4:57: parts.b.cameras: camera left must be of one part only, is of part a too"),
        ("body: {cameras: [top, top], window_ms: 2000}",
         "4:16: parts.body.cameras: must name each camera once, got top more than once"),
        ("body: {cameras: [top], window_ms: 2000}", "4:16: parts.body.cameras: "),
        ("body: {cameras: [top, left]}", "4:9: parts.body.window_ms: required, but missing"),
        ("body: {cameras: [top, left], window_ms: 2000, by: frame_id}", "4:55: parts.body.by: "),
        ("part/body: {cameras: [top, left], window_ms: 2000}", "4:9: parts.part/body"),
    ],
    ids=str,
)  # fmt: skip
def test_part_is_refused_with_its_place_when_its_cameras_cannot_be_of_it(
    tmp_path: Path, parts: str, fault: str
) -> None:
    path = write_parts(tmp_path, f"parts: {{{parts}}}")
    assert fault_of(path).splitlines()[0].startswith(f"{path}:{fault}")


def test_camera_whose_frames_carry_no_id_is_of_a_part_only_with_triggers(tmp_path: Path) -> None:
    parts, source = "parts: {body: {cameras: [top, right], window_ms: 2000}}", "source: {type: opencv, device: 0}"
    rule = "its frames carry no part_id: set cameras.right.triggers, which gives them the trigger's"
    fault = f"parts.body.cameras: camera right cannot be of a part: {rule}"
    assert fault_of(write_parts(tmp_path, parts, source)).endswith(fault)
    assert load_station(write_parts(tmp_path, parts, f"{source}, triggers: hardware")).parts


def test_camera_of_a_web_is_of_no_part_and_no_trigger_is_advised(tmp_path: Path) -> None:
    parts, web = (
        "parts: {body: {cameras: [top, right], window_ms: 2000}}",
        "line_scan: {frame_lines: 512, overlap_lines: 64}",
    )
    rule = "cameras.right.line_scan is set, and frames of a web are of no part"
    fault = f"parts.body.cameras: camera right cannot be of a part: {rule}"
    assert fault_of(write_parts(tmp_path, parts, web)).endswith(fault)


# ---------------------------------------------------------------- several devices


def devices(device: str, cameras: str = "{one: {}, two: {}, three: {}}") -> str:
    return f"schema: 1\nstation: a\ndevice: {device}\ncameras: {cameras}\n"


@pytest.mark.parametrize(
    ("text", "names", "places"),
    [
        (devices("cuda:1"), ("cuda:1",), {"one": 0, "two": 0, "three": 0}),
        (devices("[cuda:1]"), ("cuda:1",), {"one": 0, "two": 0, "three": 0}),
        (devices("[cuda:0, cuda:1]"), ("cuda:0", "cuda:1"), {"one": 0, "two": 1, "three": 0}),
        (devices("[cpu, cpu]"), ("cpu", "cpu"), {"one": 0, "two": 1, "three": 0}),
        (
            devices("[cuda:0, cuda:1]", "{one: {}, two: {}, three: {device: 'cuda:0'}}"),
            ("cuda:0", "cuda:1"),
            {"one": 1, "two": 0, "three": 0},
        ),
        (
            devices("[cuda:0, cuda:1]", "{one: {device: 'cuda:1'}, two: {device: 'cuda:1'}, three: {}}"),
            ("cuda:0", "cuda:1"),
            {"one": 1, "two": 1, "three": 0},
        ),
    ],
)
def test_each_camera_has_the_device_it_asks_for_or_the_one_with_the_fewest(
    tmp_path: Path, text: str, names: tuple[str, ...], places: dict[str, int]
) -> None:
    station = load_station(write(tmp_path, text))
    assert (station.devices, station.places) == (names, places)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (devices("[cuda:0, cuda:1, cuda:0]"), "3:1: device: must name each device once, got cuda:0 more than once"),
        (
            devices("[cuda:0, auto]"),
            "3:18: device.1: String should match pattern '^(cpu|cuda:(0|[1-9]\\d*))$', got 'auto'",
        ),
        (devices("[cuda, cuda:1]"), "3:10: device.0: String should match pattern"),
        (devices("[cuda:1, 'cuda:01']"), "3:18: device.1: String should match pattern"),
        (devices("[]"), "3:1: device: Tuple should have at least 1 item"),
        (
            devices("[cuda:0, cuda:1, cpu, cuda:2]"),
            "4:1: cameras: must be at least one for each device, got none for cuda:2",
        ),
        (
            devices("[cuda:0, cuda:1]", "{one: {device: 'cuda:0'}, two: {device: 'cuda:0'}}"),
            "4:1: cameras: must be at least one for each device, got none for cuda:1",
        ),
        (
            devices("[cuda:0, cuda:1]", "{one: {device: 'cuda:2'}, two: {}}"),
            "4:17: cameras.one.device: must be of the station's device, cuda:0, cuda:1, got cuda:2",
        ),
        (
            devices("auto") + "missing_device: leave_out\n",
            "5:1: missing_device: must be refuse where there is one device, auto, got leave_out",
        ),
        (devices("auto", "{one: {device: cpu}}"), "cameras.one.device: must be of the station's device, auto, got cpu"),
    ],
)
def test_devices_that_cannot_be_shared_out_are_refused_with_their_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_station(write(tmp_path, text))
    assert words in str(refused.value)
