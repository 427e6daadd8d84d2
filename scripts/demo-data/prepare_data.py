"""
Makes the demo's text: `prepare_data.py [--cache DIR]` fills <cache>/data/<silo>/train.jsonl, one silo for each participant.

Four dictionaries that Debian ships, read as question and answer: computing (FOLDOC, GFDL), hackers (Jargon File, public domain), satire
(The Devil's Dictionary, public domain) and chemistry (Elements, public domain); general (GCIDE, GPL) is text that no participant
has. They differ as real silos do: in subject, in style, and in size, from 134 records to 2,000.

Holds: a package of the hash below is preferred; a file appears whole, by renaming; a silo that is there is left alone.
Does not: install a package (that would start a dictionary server), nor commit any of this text.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHORTEST_ANSWER, LONGEST_ANSWER = 40, 700
"""Characters: less is a cross-reference; more does not fit into the demo's sequence length."""
MOST_RECORDS = 2000
"""Of one silo: ten rounds of the demo see a few hundred, and reading all of GCIDE would take longer than training."""
SEED = 20_000


@dataclass(frozen=True)
class Silo:
    package: str
    sha256: str
    dictionary: str
    question: str


SILOS = {
    "computing": Silo(
        "dict-foldoc", "745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3", "foldoc", "In computing, what is {}?"
    ),
    "hackers": Silo(
        "dict-jargon", "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1", "jargon", 'In hacker slang, what does "{}" mean?'
    ),
    "satire": Silo(
        "dict-devil",
        "6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154",
        "devil",
        'Define "{}" in the manner of Ambrose Bierce.',
    ),
    "chemistry": Silo(
        "dict-elements", "c840ae31017fca01e2d56e178b8d18ade279d24f41d7a285c6150a233f730ffa", "elements", "Describe the chemical element {}."
    ),
    "general": Silo(
        "dict-gcide", "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f", "gcide", 'Define the English word "{}".'
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the demo's text, one folder for each silo.")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("RONDO_CACHE", Path.home() / ".cache/rondo")))
    cache = parser.parse_args().cache

    missing = [name for name in SILOS if not (cache / "data" / name / "train.jsonl").is_file()]
    if not missing:
        say("all silos already there")
        return
    downloads = cache / "downloads"
    fetch_packages([SILOS[name] for name in missing], downloads)
    for name in missing:
        records = list(read_silo(SILOS[name], find_package(SILOS[name], downloads)))
        write_silo(cache / "data" / name, records)
        say(f"{name}: {len(records)} records")


def say(sentence: str) -> None:
    print(f"prepare_data: {sentence}", file=sys.stderr, flush=True)


def fetch_packages(silos: list[Silo], downloads: Path) -> None:
    downloads.mkdir(parents=True, exist_ok=True)
    wanted = [silo.package for silo in silos if find_package(silo, downloads) is None]
    if not wanted:
        return
    say(f"downloading {', '.join(wanted)}")
    with tempfile.TemporaryDirectory(dir=downloads) as scratch:
        if not apt_download(wanted, scratch):
            # The lists of a fresh machine are old or absent.
            subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=sys.stderr)
            if not apt_download(wanted, scratch):
                sys.exit(f"prepare_data: apt-get could not download {', '.join(wanted)}; is this Debian, with network?")
        for package in Path(scratch).glob("*.deb"):
            package.rename(downloads / package.name)


def apt_download(packages: list[str], folder: str) -> bool:
    command = ["apt-get", "download", "-qq", *packages]
    return subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr, stderr=subprocess.DEVNULL).returncode == 0


def find_package(silo: Silo, downloads: Path) -> Path | None:
    """
    The package of the known hash, else another release's, of which apt has checked the archive's signature and which may
    hold slightly other text.
    """
    found = sorted(downloads.glob(f"{silo.package}_*.deb"))
    for file in found:
        if hashlib.sha256(file.read_bytes()).hexdigest() == silo.sha256:
            return file
    return found[-1] if found else None


def read_silo(silo: Silo, package: Path | None) -> Iterator[dict[str, str]]:
    """Records in an order drawn once, so that a cap takes words from A to Z."""
    if package is None:
        sys.exit(f"prepare_data: {silo.package} is not in the cache although it was downloaded; remove the cache's downloads and try again")
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
        entries = read_dictionary(Path(root) / "usr/share/dictd", silo.dictionary)
    records = {}
    for entry in entries:
        word, answer = question_and_answer(silo.dictionary, entry)
        if word and len(answer) >= SHORTEST_ANSWER and not answer.lower().startswith("see "):
            records.setdefault((word, answer), {"prompt": silo.question.format(word), "completion": shortened(answer)})
    chosen = list(records.values())
    random.Random(SEED).shuffle(chosen)
    yield from chosen[:MOST_RECORDS]


def read_dictionary(folder: Path, name: str) -> list[str]:
    """dictd's format: an index of word, offset and length, the numbers in base 64, over one gzip file."""
    text = gzip.decompress((folder / f"{name}.dict.dz").read_bytes())
    places = set()
    for line in (folder / f"{name}.index").read_text(encoding="utf-8").splitlines():
        word, offset, length = line.split("\t")[:3]
        if not word.startswith(("00-database", "00database")):
            places.add((base64_number(offset), base64_number(length)))
    return [text[offset : offset + length].decode("utf-8", "replace") for offset, length in sorted(places)]


DIGITS = {digit: value for value, digit in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}


def base64_number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 64 + DIGITS[digit]
    return number


def question_and_answer(dictionary: str, entry: str) -> tuple[str, str]:
    """The head word and its definition, or two empty texts; each dictionary writes them its own way."""
    entry = entry.strip()
    if dictionary == "devil":
        match = re.match(r"([^,]+),\s*(.*)", entry, re.S)
        return (match[1].capitalize(), one_line(match[2])) if match else ("", "")
    if dictionary == "gcide":
        entry = re.sub(r"\[(?:PJC|WordNet 1\.5|RP|[^\]]*Webster[^\]]*)[^\]]*\]", "", entry)
        match = re.match(r"(.+?)\s*\\[^\\]*\\,?\s*(.*)", entry, re.S)
        return (match[1].strip(), one_line(without_links(match[2]))) if match else ("", "")
    if dictionary == "foldoc":
        entry = re.sub(r"\(\d{4}-\d{2}-\d{2}\)\s*$", "", entry)
    word, _, definition = entry.partition("\n")
    return word.strip().rstrip(","), one_line(without_links(definition))


def without_links(text: str) -> str:
    return re.sub("[{}]", "", text)


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def shortened(answer: str) -> str:
    """Cut behind a sentence where there is one."""
    if len(answer) <= LONGEST_ANSWER:
        return answer
    cut = answer[:LONGEST_ANSWER]
    end = max(cut.rfind(mark) for mark in (". ", "! ", "? "))
    return cut[: end + 1] if end >= SHORTEST_ANSWER else cut


def write_silo(folder: Path, records: list[dict[str, str]]) -> None:
    """Readable by the user that a pod runs as."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    part = folder / ".train.jsonl.part"
    part.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), encoding="utf-8")
    part.chmod(0o644)
    part.rename(folder / "train.jsonl")


if __name__ == "__main__":
    main()
