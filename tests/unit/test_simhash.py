"""SimHash: the same for ever, equal for equal words, near for nearly equal texts."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from tests.support.texts import TEXTS
from worker import simhash as module
from worker.simhash import KEPT, LEAST_WORDS, MAX_WORDS, distance, simhash

ALPHABET = "abcdefghijklmnopqrstuvwxyz"

ENGLISH = """The lake lies in the north of the country and is the largest of its kind. Every winter it freezes, and
    people walk over the ice to the islands, of which there are more than two hundred. A ferry runs from May to
    October; outside that season only the larger villages can be reached. Fishing has been regulated since 1923."""


def naive(text: str) -> int:
    """The definition, a bit at a time: 64 counters, a weight for each word."""
    counts = Counter("".join(letter if letter.isalpha() else " " for letter in text.lower()).split())
    weights = {
        word: 1 + int(3 * (count.bit_length() - 1)) for word, count in counts.items()
    }  # of powers of two
    whole = sum(weights.values())
    number = 0
    for bit in range(64):
        votes = sum(weight for word, weight in weights.items() if xxh3_64_intdigest(word.encode()) >> bit & 1)
        number |= (2 * votes > whole) << bit
    return number


def test_it_is_what_its_definition_says() -> None:
    rng = random.Random(1)
    for _ in range(50):
        words = rng.sample([f"{one}{other}" for one in "abcdefgh" for other in ALPHABET], 60)
        text = " ".join(words + words[:20] + words[:5] * 2)  # counts of 1, 2 and 4
        assert simhash(text) == naive(text)


def test_numbers_that_are_stored_never_change() -> None:
    assert simhash(ENGLISH) == 0xC312856B1CE3DD7F
    assert simhash(TEXTS[0].paragraph) == 0x63C0327B759F52D7
    assert simhash(TEXTS[10].paragraph) == 0x8FDFADE64E783B7E


def test_case_digits_punctuation_and_order_do_not_matter() -> None:
    words = ENGLISH.split()
    random.Random(2).shuffle(words)
    changed = " - ".join(words).upper().replace("1923", "2024, 12:30") + " 99.95"
    assert simhash(changed) == simhash(ENGLISH)


def test_a_text_of_few_words_has_none() -> None:
    words = [f"word{'x' * number}" for number in range(LEAST_WORDS)]
    assert simhash(" ".join(words[1:] * 50)) is None
    assert simhash(" ".join(words)) is not None
    assert simhash("") is None
    assert simhash("12 34 " * 100) is None


def test_a_small_change_turns_few_bits_and_another_text_many() -> None:
    number = simhash(ENGLISH)
    edited = simhash(ENGLISH.replace("two hundred", "a hundred") + " Read more.")
    other = simhash("Bread needs only flour, water, salt and patience. " * 2 + TEXTS[10].paragraph)
    assert number is not None
    assert edited is not None
    assert other is not None
    assert distance(number, edited) <= 9
    assert distance(number, other) > 15


def test_every_script_has_words() -> None:
    for text in TEXTS:
        number, again = simhash(text.paragraph), simhash(f"{text.paragraph} 2026")
        assert number is not None, text.language
        assert number == again


def test_scripts_without_spaces_are_read_by_pairs() -> None:
    chinese = TEXTS[0].paragraph
    number, edited = simhash(chinese * 2), simhash(chinese * 2 + "今天")
    other = simhash(TEXTS[1].paragraph * 2)
    assert number is not None
    assert edited is not None
    assert other is not None
    assert distance(number, edited) <= 8
    assert distance(number, other) > 15


def test_only_the_beginning_of_a_long_text_counts() -> None:
    beginning = " ".join("".join(random.Random(seed).choices("abcdefgh", k=7)) for seed in range(MAX_WORDS))
    assert simhash(beginning) == simhash(beginning + ENGLISH)


def test_the_memory_of_words_is_bounded_and_does_not_matter() -> None:
    expected = simhash(ENGLISH)
    rng = random.Random(3)
    for _ in range(2 * KEPT // 1000):
        simhash(" ".join("".join(rng.choices("abcdefghijklmnop", k=9)) for _ in range(1000)))
        assert len(module._lanes) <= KEPT + MAX_WORDS
    assert simhash(ENGLISH) == expected


@given(st.text(max_size=400))
def test_nothing_raises_for_any_text(text: str) -> None:
    number = simhash(text)
    assert number is None or 0 <= number < 1 << 64


def test_the_heaviest_text_does_not_overflow_a_lane() -> None:
    pairs = "".join(chr(0x4E00 + number % 500) for number in range(3 * MAX_WORDS))
    for text in ("a b c d e f g h i j k l m n o p q r s t " * 100, pairs, f"{ENGLISH} " * 100):
        assert simhash(text) == simhash(text)
    words = [f"{'ab'[number % 2]}{'x' * (number % 40)}{'yz'[number % 2]}" for number in range(MAX_WORDS)]
    assert naive(" ".join(words[:32])) == simhash(" ".join(words[:32]))
