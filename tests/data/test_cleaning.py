"""What cleaning promises: planted copies and overlaps are found, and what is good stays."""

import dataclasses
import json
import random
import unicodedata

import numpy as np
import pytest

from mixscale.config import Cleaning, Corpus, Embedded, Jsonl, Tokenizer
from mixscale.data import Document, build_store, documents, ngrams
from mixscale.data.cleaning import cleaned
from mixscale.data.splits import is_held_out
from mixscale.data.worker_pool import BATCH_TEXTS, batches
from mixscale.errors import InputError

PEOPLE_SAID = "people have said often, and that others have said since"
PROSE = [d.text for d in documents(Embedded("wiki"))][:1500]


def edited(text, share, draw):
    """The text with a share of its words exchanged for others."""
    words = text.split(" ")
    for place in draw.sample(range(len(words)), round(share * len(words))):
        words[place] = f"word{draw.randrange(10**6)}"
    return " ".join(words)


def jaccard(a, b):
    a, b = (set(ngrams.ngrams(text, ngrams.WORDS).tolist()) for text in (a, b))
    return len(a & b) / len(a | b)


def write(path, texts):
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), "utf-8")
    return Jsonl(str(path))


def test_planted_near_copies_are_found_and_others_are_not():
    """At every rate of edits that leaves documents alike, among as many that are not; bars of recall and precision."""
    draw = random.Random(0)
    texts, of = list(PROSE), list(range(len(PROSE)))
    for share in (0.01, 0.03, 0.06):
        for number in draw.sample(range(len(PROSE)), 100):
            texts.append(edited(PROSE[number], share, draw))
            of.append(number)
    # Related, as texts of one template or subject are, but no copies.
    strangers = draw.sample(range(len(PROSE)), 200)
    texts += [edited(PROSE[number], 0.3, draw) for number in strangers]
    of += list(range(len(PROSE), len(PROSE) + len(strangers)))
    order = draw.sample(range(len(texts)), len(texts))
    sketches = ngrams.sketch([texts[i] for i in order])
    group = np.empty(len(texts), int)
    group[order] = ngrams.groups(sketches, similarity=0.7)
    planted = [(i, of[i]) for i in range(len(PROSE), len(PROSE) + 300)]
    alike = [(i, j) for i, j in planted if jaccard(texts[i], texts[j]) >= 0.75]
    assert len(alike) > 200
    found = sum(group[i] == group[j] for i, j in alike)
    assert found / len(alike) >= 0.95
    # Whatever shares a group was planted together, or is as alike by itself.
    together = [(i, j) for g in set(group) for i, j in _pairs(np.flatnonzero(group == g))]
    right = sum(of[i] == of[j] or jaccard(texts[i], texts[j]) > 0.6 for i, j in together)
    assert len(together) >= found
    assert right / len(together) >= 0.99


def _pairs(members):
    return [(members[0], other) for other in members[1:]]


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.95])
def test_a_pair_at_the_required_similarity_becomes_a_candidate(similarity):
    band = ngrams.band_size(similarity)
    missed = (1 - similarity**band) ** (ngrams.PLACES // band)
    assert missed <= 1 - ngrams.CANDIDATE_PROBABILITY
    # With one more place, too many are missed.
    assert (1 - similarity ** (band + 1)) ** (ngrams.PLACES // (band + 1)) > 1 - ngrams.CANDIDATE_PROBABILITY


def test_near_duplicates_are_removed_by_scope_and_held_out_copies_stay(tmp_path):
    draw = random.Random(3)
    one = PROSE[:400]
    two = PROSE[400:700] + [edited(text, 0.01, draw) for text in one[:100] if len(text.split()) > 60]
    planted = len(two) - 300
    inside = one + [edited(text, 0.01, draw) for text in one[100:200] if len(text.split()) > 60]
    domains = {"one": write(tmp_path / "one.jsonl", inside), "two": write(tmp_path / "two.jsonl", two)}
    corpus = Corpus(domains, Tokenizer("bytes"), 32, 0.1, cache=str(tmp_path))
    told = {}
    for scope in ("keep", "domain", "corpus"):
        cleaning = Cleaning(near_duplicates=scope)
        told[scope] = build_store(dataclasses.replace(corpus, cleaning=cleaning), progress=False).statistics
    removed = {s: [told[s][d]["removed"].get("near-duplicate", 0) for d in domains] for s in told}
    assert removed["keep"] == [0, 0]
    assert removed["domain"][0] == pytest.approx(len(inside) - 400, abs=3)
    assert removed["domain"][1] <= 2
    assert sum(removed["corpus"]) == pytest.approx(len(inside) - 400 + planted, abs=6)
    # A held-out copy stays, in whichever domain it is.
    assert removed["corpus"][0] > removed["domain"][0]
    assert told["corpus"]["two"]["shared"]["one"] == pytest.approx(planted / len(two), abs=0.02)


def test_all_planted_overlap_with_held_out_text_is_found(tmp_path):
    """Parts of held-out texts inside training texts, with other case and punctuation; and a common licence."""
    draw = random.Random(4)
    corpus = Corpus(
        {"one": Embedded("wiki")},
        Tokenizer("bytes"),
        32,
        0.1,
        cache=str(tmp_path),
        cleaning=Cleaning(decontaminate=13),
    )
    licence = "permission is hereby granted free of charge to any person who obtains a copy of this text"
    texts = [f"{text}\n{licence}" for text in PROSE[:800]]
    held_out = [t for t in texts if is_held_out(corpus, Document(t)) and len(t.split()) > 60]
    hosts = [t for t in (f"{text} {i}" for i, text in enumerate(PROSE[800:1100]))]
    hosts = [t for t in hosts if not is_held_out(corpus, Document(t))]
    planted = []
    for host in hosts[:100]:
        words = draw.choice(held_out).split()[:-18]
        begin = draw.randrange(len(words) - 15)
        passage = " ".join(words[begin : begin + 15]).upper().replace(",", " ;")
        at = draw.randrange(len(host))
        planted.append(f"{host[:at]} {passage} {host[at:]}")
    planted = [text for text in planted if not is_held_out(corpus, Document(text))]
    assert len(planted) > 70
    clean = {"one": write(tmp_path / "one.jsonl", texts + hosts[100:])}
    dirty = {"one": write(tmp_path / "two.jsonl", texts + hosts[100:] + planted)}
    before, after = (
        build_store(dataclasses.replace(corpus, domains=d), progress=False).statistics["one"]["removed"]
        for d in (clean, dirty)
    )
    reason = "overlaps held-out text"
    assert after[reason] - before.get(reason, 0) == len(planted)
    # Text that all of them share does not count.
    assert before.get(reason, 0) < 0.05 * len(texts)


def test_exact_duplicates_are_removed_by_scope(tmp_path):
    domains = {
        "one": write(tmp_path / "one.jsonl", PROSE[:200] + PROSE[:50]),
        "two": write(tmp_path / "two.jsonl", PROSE[150:400]),
    }
    corpus = Corpus(domains, Tokenizer("bytes"), 32, 0.1, cache=str(tmp_path))
    documents_of, duplication = {}, {}
    for scope in ("keep", "domain", "corpus"):
        store = build_store(dataclasses.replace(corpus, cleaning=Cleaning(duplicates=scope)), progress=False)
        documents_of[scope] = [store.facts[d]["documents"] for d in domains]
        duplication[scope] = store.statistics["one"]["duplication"]
        assert store.statistics["one"]["shared"]["two"] == pytest.approx(50 / 250)
        assert store.statistics["two"]["shared"]["one"] == pytest.approx(50 / 250)
    assert documents_of == {"keep": [250, 250], "domain": [200, 250], "corpus": [200, 200]}
    assert list(duplication.values()) == pytest.approx([50 / 250] * 3)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (" ".join(PROSE[0].split()[:20]), "quality: word count"),
        ("the be to of " + "antidisestablishmentarianism " * 60, "quality: word length"),
        ("# the things that people have said " * 20, "quality: symbols"),
        ("\n".join(f"- the {i} things that people have said" for i in range(20)), "quality: bullets"),
        ("\n".join(f"things {i} that {PEOPLE_SAID}…" for i in range(20)), "quality: ellipses"),
        ("the of and to be 1234 5678 9012 3456 7890 " * 10, "quality: words without letters"),
        ("lorem ipsum dolor sit amet consectetur " * 12, "quality: no stop words"),
        ("the same line of words that have been said\n" * 10, "quality: repeated lines"),
        ("the thing of " * 60 + "that", "quality: repeated words"),
        ("   \n", "empty"),
    ],
)
def test_each_quality_rule_removes_its_kind_of_text(text, rule):
    assert cleaned(text, Cleaning(quality=("prose",)), "prose")[1] == rule
    assert cleaned(text, Cleaning(quality=("prose",)), "code")[1] == ("empty" if rule == "empty" else "")


def test_prose_passes_the_quality_rules_and_code_fails():
    asked = Cleaning(quality=("*",))
    share = {}
    for name in ("wiki", "fiction", "code"):
        texts = [d.text for d in documents(Embedded(name)) if len(d.text.split()) >= 60][:300]
        share[name] = sum(not cleaned(text, asked, name)[1] for text in texts) / len(texts)
    assert min(share["wiki"], share["fiction"]) > 0.9
    assert share["code"] < 0.6


def test_text_is_normalized_before_its_length_is_checked():
    apart = unicodedata.normalize("NFD", "déjà vu")
    assert cleaned(apart, Cleaning(), "a") == (apart, "")
    assert cleaned(apart, Cleaning(normalize=True), "a") == ("déjà vu", "")
    assert cleaned("abc", Cleaning(min_characters=4), "a")[1] == "too short"
    assert cleaned("abcde", Cleaning(max_characters=4), "a")[1] == "too long"


@pytest.mark.parametrize("near_duplicates", ["keep", "corpus"])
def test_cleaning_that_removes_everything_is_an_error(tmp_path, near_duplicates):
    domains = {"one": write(tmp_path / "one.jsonl", PROSE[:50]), "two": write(tmp_path / "two.jsonl", PROSE[50:90])}
    cleaning = Cleaning(min_characters=10**6, near_duplicates=near_duplicates)
    corpus = Corpus(domains, Tokenizer(vocab_size=300), 32, 0.1, cleaning=cleaning, cache=str(tmp_path))
    told = r"'one' has too little training text: 0 tokens in 0 of its 0 documents \(50 more were removed by cleaning"
    with pytest.raises(InputError, match=told):
        build_store(corpus, progress=False)


def test_batches_are_limited_by_characters_and_number():
    texts = [("x" * n, n) for n in [5] * 10_000 + [600] * 50]
    found = list(batches(iter(texts), 1000))
    assert [item for batch in found for item in batch] == texts
    assert max(sum(len(text) for text, _ in batch[:-1]) for batch in found) < 1000
    short = list(batches(iter(texts[:10_000]), 10**6))
    assert [len(batch) for batch in short] == [BATCH_TEXTS, BATCH_TEXTS, 10_000 - 2 * BATCH_TEXTS]


def test_ngrams_ignore_case_and_punctuation_and_need_no_spaces_in_chinese():
    assert (ngrams.ngrams("The cat, sat -- DOWN!", 3) == ngrams.ngrams("the CAT sat down", 3)).all()
    assert len(np.intersect1d(ngrams.ngrams("我们今天去北京看朋友", 3), ngrams.ngrams("他们今天去北京", 3))) == 4
    assert len(ngrams.ngrams("two words", 13)) == 1
    assert ngrams.ngrams("?!", 3)[0] != ngrams.ngrams("!?", 3)[0]
    # The hash of a sequence does not depend on its place.
    assert set(ngrams.ngrams("b c d e f g", 5).tolist()) <= set(ngrams.ngrams("a b c d e f g h", 5).tolist())


@pytest.mark.parametrize(
    ("setting", "named"), [({"quality": ("wnoe",)}, "quality names 'wnoe'"), ({"similarity": 0.0}, "similarity is 0")]
)
def test_impossible_cleaning_is_an_error(setting, named):
    with pytest.raises(InputError, match=named):
        Corpus({"one": Embedded("wiki")}, cleaning=Cleaning(**setting))
