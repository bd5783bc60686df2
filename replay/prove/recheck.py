"""A certificate, verified later against the log. Must not look at the live tables: they have moved on."""

from collections.abc import Iterator, Mapping

from replay.ports import Advance, Connection, Log
from replay.prove.certificate import Certificate, PartitionProof, ProofVerdict, TableProof
from replay.prove.held import held_below
from replay.prove.losses import part_of
from replay.prove.merkle import canonical_columns, hash_table
from replay.prove.prover import Versions, other_code
from replay.prove.shadow import SCHEMA, Shadow
from schemas.facts import TABLES
from schemas.openapi import Document


class Recheck(Document):
    """The result of `redrive prove --check`. `tables` have the certificate's root, and the current root of the log."""

    verdict: ProofVerdict
    reasons: list[str]
    findings: list[str]
    """The differences from the certificate."""
    tables: dict[str, TableProof]
    certificate: str
    """Its digest."""


async def recheck(
    certificate: Certificate,
    shadow: Connection,
    versions: Versions,
    reader: Log,
    advance: Advance,
) -> Recheck:
    """Folds up to the certificate's positions. `shadow` is a connection that nothing else uses."""
    held = await held_below(reader, {(one.topic, one.partition): one.next_offset for one in certificate.positions})
    known = {part_of(loss) for loss in certificate.losses or () if loss.state != "open"}
    gone = [text for part, text in held.lost.items() if part not in known]
    reasons = [*_said(certificate), *gone, *held.reasons, *_other_declarations(certificate, versions.projections)]
    findings = certificate.contradictions()
    folded = Shadow(shadow)
    await folded.open()
    await folded.fold(reader, held.ranges, advance)
    tables = {}
    for table in TABLES:
        if (was := certificate.tables.get(table.name)) is not None:
            now = await hash_table(shadow, SCHEMA, table)
            tables[table.name] = was.model_copy(update={"log_rows": now.rows, "log_root": now.root})
    others = [*_other_records(certificate, folded), *_other_rows(tables)]
    if certificate.differences_total:
        others.append(f"the certificate itself counts {certificate.differences_total} differences")
    # Where the log or the code is another one, so are the roots.
    findings += [] if reasons else others
    return Recheck(
        verdict="different" if findings else "incomplete" if reasons else "equal",
        reasons=reasons,
        findings=findings,
        tables=tables,
        certificate=certificate.digest,
    )


def _said(certificate: Certificate) -> Iterator[str]:
    for reason in certificate.reasons:
        yield f"the certificate says: {reason}"


def _other_declarations(certificate: Certificate, ours: Mapping[str, int]) -> Iterator[str]:
    for text in other_code(certificate.versions, ours):
        yield f"the certificate was {text}"
    for name in sorted(set(ours) - set(certificate.versions)):
        yield f"the certificate knows no projection {name}"
    declared = {table.name: [column.name for column in canonical_columns(table)] for table in TABLES}
    for name in sorted(set(declared) | set(certificate.tables)):
        if name not in certificate.tables or declared.get(name) != certificate.tables[name].columns:
            yield f"the table {name} has other columns than in this version"


def _other_records(certificate: Certificate, folded: Shadow) -> Iterator[str]:
    for one in certificate.positions:
        if not _is_same(one, folded):
            yield f"{one.topic}/{one.partition}: the log does not hold the records that were proved"
    if certificate.counts.dead_letters != folded.dead:
        yield f"the certificate counts {certificate.counts.dead_letters} dead letters, and there are {folded.dead}"
    if certificate.counts.records != folded.records:
        yield f"the certificate counts {certificate.counts.records} records, and there are {folded.records}"


def _is_same(one: PartitionProof, folded: Shadow) -> bool:
    digest = folded.digests.get((one.topic, one.partition))
    return digest is not None and (digest.records, digest.hex()) == (one.records, one.sha256)


def _other_rows(tables: dict[str, TableProof]) -> Iterator[str]:
    for name, one in tables.items():
        if (one.root, one.rows) != (one.log_root, one.log_rows):
            yield f"{name}: the rows of the certificate are not those of the log"
