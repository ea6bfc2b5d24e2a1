"""A master key split into key shares of words (SLIP-39), and made again from enough of them.

Words and their rules only: no files, no printing, no other key. The format is SatoshiLabs'
SLIP-0039 with one group and no passphrase, so that any program for it can recombine the shares.
Imports ``shamir_mnemonic``, the keyring and the storage errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import shamir_mnemonic
from shamir_mnemonic.wordlist import WORD_INDEX_MAP

from backends.errors import KeyUnavailableError
from backends.keyring import MASTER_KEY_SIZE_BYTES, MasterKey

WORD_COUNT = 33
"""The words of one key share of a 256-bit key."""

SHARE_LIMIT = 16
THRESHOLD_MINIMUM = 2
"""With a threshold of one, each share would be a copy of the key."""

_WORD = re.compile(r"[^\W\d_]+")
_COMMENT = "#"


class KeyShareError(KeyUnavailableError):
    """Words that are no key share, or key shares that do not belong together."""


@dataclass(frozen=True, slots=True)
class KeyShare:
    """One of the shares that a master key was split into; ``threshold`` of them make it again.

    ``number`` counts from 1. Shares with equal ``set_id`` come from one splitting.
    """

    words: tuple[str, ...] = field(repr=False)
    set_id: int
    number: int
    threshold: int


def split(master: MasterKey, *, count: int, threshold: int) -> list[KeyShare]:
    """Return ``count`` key shares, any ``threshold`` of which make the key again.

    Every share was used in recombining before this returns. Raises KeyShareError for counts that
    cannot be.
    """
    if not THRESHOLD_MINIMUM <= threshold <= count <= SHARE_LIMIT:
        raise KeyShareError(
            f"A key cannot be split into {count} shares of which {threshold} are needed. Choose at "
            f"most {SHARE_LIMIT} shares, and a threshold from {THRESHOLD_MINIMUM} to their number."
        )
    group = shamir_mnemonic.generate_mnemonics(1, [(threshold, count)], master.to_bytes())[0]
    shares = [read_share(mnemonic.split()) for mnemonic in group]
    for start in range(count):
        chosen = [shares[(start + offset) % count] for offset in range(threshold)]
        if combine(chosen).key_id != master.key_id:
            raise KeyShareError("The key shares did not make the key again, so none are given out.")
    return shares


def word_runs(text: str) -> Iterator[list[str]]:
    """Yield the words of ``text`` in lower case, one list for each stretch without a comment.

    Numbers, punctuation and line breaks between words are passed over; ``#`` begins a comment.
    """
    words: list[str] = []
    for line in text.splitlines():
        plain, comment, _ = line.partition(_COMMENT)
        words += _WORD.findall(plain.lower())
        if comment and words:
            yield words
            words = []
    if words:
        yield words


def require_words(words: Sequence[str], label: str, *, first: int = 1) -> None:
    """Raise KeyShareError unless all are words of key shares.

    ``label`` says in the message of which share, ``first`` is the place of the first word in it.
    The word itself is not repeated: it may be nearly the right one.
    """
    for place, word in enumerate(words, start=first):
        if word not in WORD_INDEX_MAP:
            raise KeyShareError(
                f"Word {place} of {label} is not a word of key shares. Compare it with the sheet."
            )


def read_share(words: Sequence[str], label: str = "a key share") -> KeyShare:
    """Return the share that ``words`` (lower case) are; KeyShareError when a word is wrong."""
    require_words(words, label)
    if len(words) != WORD_COUNT:
        raise KeyShareError(
            f"There are {len(words)} words instead of {WORD_COUNT} in {label}. Compare them with the "
            "sheet."
        )
    try:
        share = shamir_mnemonic.Share.from_mnemonic(" ".join(words))
    except shamir_mnemonic.MnemonicError as error:
        raise KeyShareError(
            f"The words of {label} do not fit together: one or more of them are wrong or in the "
            "wrong place. Compare each with the sheet."
        ) from error
    if share.group_count != 1 or len(share.value) != MASTER_KEY_SIZE_BYTES:
        raise KeyShareError(f"The words of {label} belong to something else than a master key.")
    return KeyShare(tuple(words), share.identifier, share.index + 1, share.member_threshold)


class Gathering:
    """Key shares of one set, as they come in, until there are enough."""

    def __init__(self) -> None:
        self._shares: list[KeyShare] = []

    def add(self, share: KeyShare) -> None:
        """Add a share; KeyShareError if it is there already or belongs to another set."""
        for known in self._shares:
            if (known.set_id, known.threshold) != (share.set_id, share.threshold):
                raise KeyShareError(
                    f"Key share {share.number} belongs to another set than key share "
                    f"{known.number}: they come from two splittings and cannot be combined."
                )
            if known.number == share.number:
                raise KeyShareError(f"Key share {share.number} was given twice.")
        self._shares.append(share)

    @property
    def given(self) -> int:
        """How many shares were added."""
        return len(self._shares)

    @property
    def missing(self) -> int:
        """How many more are needed; 1 as long as there is none that tells."""
        if not self._shares:
            return 1
        return max(0, self._shares[0].threshold - len(self._shares))

    def master(self) -> MasterKey:
        """Return the key; KeyShareError when shares are missing or do not fit together."""
        if not self._shares:
            raise KeyShareError("No key share was given. Each has 33 words.")
        if self.missing:
            raise KeyShareError(
                f"This key needs {self._shares[0].threshold} key shares, and {self.given} were "
                f"given: {self.missing} more are missing."
            )
        return combine(self._shares)


def combine(shares: Sequence[KeyShare]) -> MasterKey:
    """Return the key that enough ``shares`` of one set make; KeyShareError when they do not fit."""
    chosen = shares[: shares[0].threshold]
    try:
        key = shamir_mnemonic.combine_mnemonics([" ".join(share.words) for share in chosen])
    except shamir_mnemonic.MnemonicError as error:
        raise KeyShareError(
            "These key shares do not make a key together. Use the sheets of one splitting."
        ) from error
    return MasterKey(key)
