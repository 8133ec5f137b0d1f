"""The mapping of 1,521 classes to one list of names, and the calibration beside it."""

from __future__ import annotations

import csv
from collections import Counter

from models import tags
from models.tags import labels, source_classes
from models.weights import Weights


def _classes_of(label: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"imagenet": set(), "audioset": set()}
    for source in source_classes():
        if source.label == label:
            found[source.collection].add(source.name)
    return found


def test_every_class_has_exactly_one_label() -> None:
    """Each of ImageNet's 1,000 and AudioSet's 521 classes stands in the mapping once, and under its own name."""
    places = Counter((source.collection, source.index) for source in source_classes())
    assert set(places.values()) == {1}
    assert len(places) == 1521
    for collection, count in tags.CLASS_COUNTS.items():
        names = [source.name for source in source_classes() if source.collection == collection]
        assert len(names) == len(set(names)) == count


def test_audioset_classes_are_those_of_the_weights(pretrained: Weights) -> None:
    """AudioSet's names and their order are those published with YAMNet's weights."""
    with pretrained.audio_classes.open(encoding="utf-8", newline="") as file:
        published = [row["display_name"] for row in csv.DictReader(file)]
    ours = {source.index: source.name for source in source_classes() if source.collection == "audioset"}
    assert [ours[index] for index in range(521)] == published


def test_labels_are_unique_and_readable() -> None:
    """No two labels differ by case alone; words begin with capitals; no comma, no bracket; none is Person."""
    names = [label.name for label in labels()]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(word[0].isupper() or word in {"and", "or", "of"} for name in names for word in name.split())
    assert not any(set(name) & set(",()/_") or name != name.strip() for name in names)
    assert "Person" not in names
    assert names == sorted(names, key=lambda name: (name.lower(), name))


def test_merged_names_are_a_readable_number() -> None:
    """Between 100 and 200 labels have more than one class, and they hold most classes."""
    sizes = Counter(source.label for source in source_classes())
    merged = [size for size in sizes.values() if size > 1]
    assert 100 <= len(merged) <= 200
    assert sum(merged) > 1000
    assert len(sizes) < 650


def test_dog_is_every_breed_and_every_sound_of_one() -> None:
    """Dog has ImageNet's 118 breeds and AudioSet's dog sounds, and no wolf and no cat."""
    dog = _classes_of("Dog")
    assert len(dog["imagenet"]) == 118
    assert {"Dog", "Bark", "Howl", "Bow-wow", "Growling"} <= dog["audioset"]
    assert not {"timber wolf", "tabby"} & dog["imagenet"]


def test_labels_that_alarms_wait_for_mean_one_thing() -> None:
    """Glass and Gunshot are sounds alone: a wine glass or a rifle in the picture raises neither."""
    modalities = {label.name: label.modalities for label in labels()}
    assert modalities["Glass"] == modalities["Gunshot"] == modalities["Siren"] == ("audio",)
    assert modalities["Gun"] == modalities["Clothing"] == ("video",)
    assert modalities["Dog"] == modalities["Car"] == modalities["Train"] == ("video", "audio")


def test_modalities_are_those_of_the_classes() -> None:
    """A label can be raised by video if it has an ImageNet class, by audio if it has an AudioSet class."""
    for label in labels():
        sources = _classes_of(label.name)
        assert label.modalities == tuple(
            modality for modality, collection in (("video", "imagenet"), ("audio", "audioset")) if sources[collection]
        )


def test_label_of_class_follows_the_mapping() -> None:
    """The vector the network uses says the same as the rows of the file."""
    names = [label.name for label in labels()]
    for collection in tags.CLASS_COUNTS:
        places = tags.label_of_class(collection)
        for source in source_classes():
            if source.collection == collection:
                assert names[places[source.index]] == source.label


def test_calibration_keeps_the_order_of_scores() -> None:
    """Both scales are positive, so calibration never reverses two labels; the prior is under what is published."""
    constants = tags.calibration()
    assert constants.video.scale > 0 and constants.audio.scale > 0
    assert constants.video.order >= 1 and constants.audio.order >= 1
    assert 0 < constants.prior < 0.05
