"""Check all results at one place: every line, every record, every byte."""

from concurrent.futures import ThreadPoolExecutor, as_completed

from digits.errors import DamagedError, LedgerError
from digits.progress import transfer
from digits.registry.needed import data_of_champions, named_bundles
from digits.registry.places import Place
from digits.storage.references import Frozen

# Each waits for the network or a disk most of the time.
NUM_READERS = 8


class Problem(Frozen):
    """Something that is corrupted or missing."""

    name: str
    found: str


class Findings(Frozen):
    """What lies at a place. `unreferenced` are folders that nothing names, which is no problem."""

    place: str
    num_lines: int
    num_records: int
    num_folders: int
    num_bytes: int
    problems: tuple[Problem, ...]
    unreferenced: tuple[str, ...]


def check(place: Place) -> Findings:
    """Check ledgers, dataset versions, records, bundles and batches, every byte of them.

    Raises StoreError if the store does not answer.
    """
    return _Check(place).run()


class _Check:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._problems: list[Problem] = []
        self._num_lines = 0
        # The digest of the manifest of each folder that something names, and what names it.
        self._digests: dict[str, str] = {}
        self._namers: dict[str, str] = {}

    def run(self) -> Findings:
        # What names folders is read first: whatever is named is stored before.
        self._read_ledgers()
        self._read_versions()
        num_records = self._read_records()
        sizes = self._place.folders()
        for name, namer in self._namers.items():
            if name not in sizes:
                self._report(name, f"missing, but {namer} names it")
        self._inspect(sizes)
        return Findings(
            place=str(self._place),
            num_lines=self._num_lines,
            num_records=num_records,
            num_folders=len(sizes),
            num_bytes=sum(sizes.values()),
            problems=tuple(self._problems),
            unreferenced=tuple(name for name in sizes if name not in self._namers),
        )

    def _read_ledgers(self) -> None:
        for ledger in self._place.ledgers():
            namer = f"the ledger of {ledger.dataset}"
            try:
                entries = ledger.entries()
                self._num_lines += len(entries)
                self._name(named_bundles([entries]), namer)
                self._name(data_of_champions([entries], self._place.workspace.store), namer)
            except LedgerError as error:
                self._report(f"ledger/{ledger.dataset}", str(error))
            except DamagedError:  # the champion's lineage, which is reported below
                continue

    def _read_versions(self) -> None:
        for versions in self._place.versions():
            try:
                changes = versions.changes()
            except LedgerError as error:
                self._report(f"versions/{versions.dataset}", str(error))
                continue
            self._num_lines += len(changes)
            for change in changes:
                name = f"batches/{versions.dataset}/{change.batch}"
                self._digests[name] = change.manifest
                self._namers[name] = f"the list of versions of {versions.dataset}"

    def _read_records(self) -> int:
        records = self._place.records()
        for key, record in records.items():
            if record is None:
                self._report(f"records/{key}.json", "corrupted; its step runs again")
            else:
                self._name({record.reference.name}, f"the record of {record.label}")
        return len(records)

    def _name(self, names: set[str], namer: str) -> None:
        for name in names:
            self._namers.setdefault(name, namer)

    def _inspect(self, sizes: dict[str, int]) -> None:
        # A batch that no version names could have any content.
        known = {
            name: self._digests.get(name, name.rpartition("/")[2])
            for name in sizes
            if name in self._digests or not name.startswith("batches/")
        }
        done = 0
        with (
            ThreadPoolExecutor(NUM_READERS) as readers,
            transfer("check", sum(sizes[name] for name in known), "checked") as show,
        ):
            inspected = {
                readers.submit(self._place.inspect, *item): item[0] for item in known.items()
            }
            try:
                for future in as_completed(inspected):
                    name = inspected[future]
                    try:
                        future.result()
                    except DamagedError as error:
                        self._report(name, str(error))
                    done += sizes[name]
                    show(done)
            except BaseException:
                readers.shutdown(cancel_futures=True)
                raise

    def _report(self, name: str, found: str) -> None:
        self._problems.append(Problem(name=name, found=found))
