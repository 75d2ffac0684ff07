"""What names tell of sequences, and what they don't."""

import pytest

from training.data.names import BadPattern, FrameName, compile_pattern, group_of, parse_name, stem_of

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("name", "sequence", "frame"),
    [
        ("4.2V-001.png", "4.2V", 1),
        ("4.2V-001", "4.2V", 1),
        ("10C3_0.tif", "10C3", 0),
        ("spot3_0d_3", "spot3_0d", 3),
        ("train_07", "train", 7),
        ("Inconel_718-03.png", "Inconel_718", 3),
        ("vol-z003.ome.tif", "vol", 3),
        ("crack_frame12.TIFF", "crack_frame", 12),
        ("img0001", "img", 1),
        ("DSC01234.JPG", "DSC", 1234),
        ("sample (3).png", "sample", 3),
        ("20231105-001.png", "20231105", 1),
        ("IMG_20231105_123456.jpg", "IMG_20231105", 123456),
    ],
)
def test_a_number_at_the_end_is_the_frame_and_what_is_before_it_the_sequence(name, sequence, frame):
    assert parse_name(name) == FrameName(sequence, frame)


@pytest.mark.parametrize(
    "name",
    [
        "02.png",
        "_001.png",
        "sub-rat3_sample-data10_SEM.png",
        "AISI304.png",  # a steel
        "10C3.png",  # a condition
        "alloy_0.5.png",  # a decimal
        "scan_20231105.tif",  # a date
        "1024x768.png",
        "grain",
        "",
    ],
)
def test_a_name_without_a_frame_number_names_no_sequence(name):
    assert parse_name(name) == FrameName(None, None)


@pytest.mark.parametrize(
    "reference",
    [
        "b9b1f682-4.2V-001.png",
        "/data/upload/1/b9b1f682-4.2V-001.png",
        "/data/upload/1/12345678-4.2V-001.png",
        "https://studio.example/data/upload/1/b9b1f682-4.2V-001.png",
        "/data/local-files/?d=images/4.2V-001.png",
        "http://studio.example:8080/data/local-files/?d=my%20images/4.2V-001.png",
        "s3://bucket/experiment/4.2V-001.png",
        "https://bucket.example/4.2V-001.png?X-Signature=abc/def",
        r"C:\images\4.2V-001.png",
    ],
)
def test_an_image_reference_tells_what_its_file_name_tells(reference):
    assert parse_name(reference) == FrameName("4.2V", 1)
    assert stem_of(reference) == "4.2V-001"


def test_frames_of_a_sequence_are_one_group_and_other_images_are_groups_of_their_own():
    names = ["4.2V-001.png", "4.2V-002.png", "4.3V-001.png", "02.png", "03.png"]
    assert [group_of(name) for name in names] == ["4.2V", "4.2V", "4.3V", "02", "03"]


def test_a_pattern_of_the_user_takes_the_place_of_the_rules():
    pattern = compile_pattern(r"(?P<sequence>[^/]+)/(?P<frame>\d+)$")
    assert parse_name("rat1/0007.png", pattern) == FrameName("rat1", 7)
    assert group_of("rat1/0007.png", pattern) == group_of("rat1/0008.png", pattern) == "rat1"
    assert parse_name("4.2V-001.png", pattern) == FrameName(None, None)


def test_a_pattern_may_name_specimens_without_frames():
    pattern = compile_pattern(r"^(?P<sequence>spot\d+)")
    assert parse_name("spot1_180d_5.png", pattern) == FrameName("spot1", None)


@pytest.mark.parametrize(("text", "problem"), [("(", "not a regular expression"), (r"(\d+)", "`sequence`")])
def test_a_pattern_that_cannot_be_used_says_why(text, problem):
    with pytest.raises(BadPattern, match=problem):
        compile_pattern(text)


def test_real_sets_fall_into_the_groups_their_authors_meant(shared_data):
    def groups(name):
        return {group_of(path.name) for path in (shared_data / name / "images").iterdir()}

    assert groups("nanocomposite") == {"10C3", "10un", "5C3", "5un"}
    assert groups("tem_sintering") == {"train"}  # one recording
    assert len(groups("dtsegnet")) == 17
    assert len(groups("axon_sem")) == 4
    assert len(groups("nasa_super")) == 12
