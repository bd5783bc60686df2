"""A plug-in adds to the registries, never takes from them, and what is wrong with it is refused in one sentence."""

import sys
from pathlib import Path

import pytest

from deploy.samples import story
from deploy.wiring import load_file
from processors import projections
from processors.fold import fold_record
from schemas import facts, providers
from schemas.errors import InvalidSelection, Misconfigured
from schemas.providers.base import Secrets
from schemas.settings import Source
from tests.support.fixtures import READABLE, of_fixture
from tests.support.records import record
from tests.support.workshop import Workshop

CONTACT = 'PROJECTIONS = {"standardwebhooks.contact.created": project}'


def table(columns: str, base: str = "Fact") -> str:
    """A plug-in with one table."""
    return f"""
from schemas.lattice import Latest, Ranked

@dataclass(frozen=True, slots=True, kw_only=True)
class Odd({base}):
    {columns}

TABLES = [Table("odd", Odd)]
"""


def test_a_plug_in_adds_a_provider_a_projection_and_a_table_and_twice_is_once(workshop: Workshop) -> None:
    name = workshop.write("""
PROVIDERS = (acme,)
PROJECTIONS = {"acme": project, "standardwebhooks.contact.created": project}
TABLES = [Table("seen", Seen)]
""")
    ours = [table.name for table in facts.TABLES]
    for _ in range(2):
        workshop.load(name)
        assert [table.name for table in facts.TABLES] == [*ours, "seen"]
        assert [table.name for table in facts.PLUGGED_IN] == ["seen"]
    for provider, kind in (("acme", "anything"), ("standardwebhooks", "contact.created")):
        body = b'{"type":"%s","name":"Zoe"}' % kind.encode()
        folded = fold_record(record(f"webhooks.{provider}", provider, body, signed_id="msg_1"))
        assert not folded.letters
        assert [(table.name, row) for table, row in folded.rows] == [("seen", ("Zoe",))]


def test_a_types_projection_is_asked_for_that_type_alone(workshop: Workshop) -> None:
    workshop.load(workshop.write('PROJECTIONS = {"standardwebhooks.contact.created": project}'))
    body = b'{"type":"contact.created.v2","name":"Zoe"}'
    folded = fold_record(record("webhooks.standardwebhooks", "standardwebhooks", body, signed_id="msg_1"))
    assert not folded.letters
    assert (folded.rows, folded.events[0].status) == ((), "ignored")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "defines none of PROVIDERS, PROJECTIONS, TABLES"),
        ("PROVIDER = acme", "defines none of"),
        ("PROVIDERS = acme", "PROVIDERS must be a list or tuple of schemas.providers.base.Provider"),
        ('PROVIDERS = ["acme"]', "PROVIDERS must be a list or tuple of"),
        ("TABLES = [Seen]", "TABLES must be a list or tuple of schemas.lattice.Table"),
        ("PROJECTIONS = project", "PROJECTIONS must map"),
        ('PROJECTIONS = {"standardwebhooks.contact.created": None}', "PROJECTIONS must map"),
        ("PROVIDERS = [acme]", "PROJECTIONS has none for 'acme'"),
        ('PROVIDERS = [replace(acme, name="stripe")]', "a provider called 'stripe' exists already"),
        ('PROVIDERS = [replace(acme, name="operator")]', "'operator' can't name a provider"),
        ('PROVIDERS = [replace(acme, name="acme.com")]', "'acme.com' can't name a provider"),
        ('PROJECTIONS = {"stripe": project}', "'stripe' has a projection already"),
        ('PROJECTIONS = {"acmee": project}', "no provider is called 'acmee'"),
        ('PROJECTIONS = {"acmee.order.paid": project}', "no provider is called 'acmee'"),
        ('PROJECTIONS = {"standardwebhooks.credits.used": project}', "redrive reads 'standardwebhooks.credits.used'"),
        ('PROJECTIONS = {"standardwebhooks.unparsable": project}', "redrive reads 'standardwebhooks.unparsable'"),
        ('PROJECTIONS = {"stripe.invoice.paid": project}', "redrive reads 'stripe.invoice.paid'"),
        ('PROJECTIONS = {"whatsapp.batch": project}', "'whatsapp.batch' can't be projected alone"),
        ('PROJECTIONS = {"twilio.other": project}', "'twilio.other' can't be projected alone"),
        ('TABLES = [Table("messages", Seen)]', "a table or view called 'messages' exists already"),
        ('TABLES = [Table("accounts", Seen)]', "a table or view called 'accounts' exists already"),
        ('TABLES = [Table("Seen", Seen)]', "'Seen' can't name a table"),
        ('TABLES = [Table("seen", Keyless)]', "no column with the policy Key"),
        ('TABLES = [Table("seen", Message)]', "Message is already the fact of table 'messages'"),
        ('TABLES = [Table("seen", Seen), Table("seen_too", Seen)]', "Seen is already the fact of table 'seen'"),
        ("def broken(:", "can't be imported: SyntaxError"),
        ("import acme_client", "can't be imported: No module named 'acme_client'"),
        ("import sys; sys.exit(3)", "can't be imported: SystemExit at "),
        ("raise GeneratorExit", "can't be imported: GeneratorExit at "),
        ("class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute", "can't be imported: Mute at "),
        ("def __getattr__(name): raise SystemExit", "can't be registered: SystemExit at "),
        (
            "class Odd(dict):\n    def values(self): 1 / 0\nPROJECTIONS = Odd()",
            "registered: ZeroDivisionError: division",
        ),
        ("PROVIDERS = [replace(acme, name=7)]", "7 can't name a provider"),
        ('PROVIDERS = [replace(acme, verify="yes")]', "provider 'acme': verify: Input should be callable"),
        ('PROVIDERS = [replace(acme, mask_token="yes")]', "provider 'acme': mask_token: Input should be callable"),
        ("PROVIDERS = [replace(acme, secret_variable=None)]", "provider 'acme': secret_variable: Input should be"),
        ('PROVIDERS = [replace(acme, kept_headers="x-acme")]', "provider 'acme': kept_headers: Input should be"),
        ("PROVIDERS = [replace(acme, kept_headers=(7,))]", "provider 'acme': kept_headers: Input should be"),
        ('PROVIDERS = [replace(acme, methods="POST")]', "provider 'acme': methods: Input should be"),
        ('PROVIDERS = [replace(acme, answer="xml")]', "provider 'acme': answer: Input should be 'json' or 'twiml'"),
        ("PROVIDERS = [replace(acme, max_body_bytes=0)]", "max_body_bytes must be 1 to 5242880"),
        ("PROVIDERS = [replace(acme, max_body_bytes=6 * 2**20)]", "max_body_bytes must be 1 to 5242880"),
        ('PROVIDERS = [replace(acme, max_body_bytes="1")]', "provider 'acme': max_body_bytes: Input should be"),
        (f"{CONTACT}\nVERSION = 'two'", "VERSION of the projection of 'standardwebhooks.contact.created' must be"),
        (f"{CONTACT}\nVERSION = 0", "must be a whole number from 1 to 2147483647"),
        (f"{CONTACT}\nWRITES = 'seen'", "WRITES of the projection of 'standardwebhooks.contact.created' must be"),
        (table("firstName: Annotated[str, Key()]"), "column 'firstName' of table 'odd': a name, and that of a group"),
        (table("a: Annotated[str, Key()]; b: Annotated[str, Latest('b; DROP')]"), "column 'b; DROP_version' of table"),
        (
            table("a: Annotated[str, Key()]; a_version: Annotated[str, Min()]; b: Annotated[str, Latest('a')]"),
            "is there twice",
        ),
        (table("a: Annotated[str, Min()]; b: Annotated[str, Key()]"), "columns with the policy Key must come first"),
        (
            table("a: Annotated[str, Key()]; b: Annotated[str, 'latest']"),
            "column 'b' of table 'odd' has no merge policy",
        ),
        (table("a: Annotated[str, Key()]; b: Annotated[str, Ranked(('x', chr(39)))]"), "ranks are for text"),
        (table("a: Annotated[str, Key()]; b: Annotated[str, Ranked(('x', 'x'))]"), "ranks are for text"),
        (table("a: Annotated[str, Key()]; b: Annotated[int, Ranked(('x', 'y'))]"), "ranks are for text"),
        (table("a: Annotated[str, Key()]; b: Annotated[str, Latest('b', ())]"), "ranks are for text"),
        (table("a: Annotated[str, Key()]", base="object"), "Odd is not a subclass of schemas.lattice.Fact"),
        ("1 / 0", "can't be imported: ZeroDivisionError"),
        ("Table('bad', str)", "can't be imported: TypeError"),
    ],
)
def test_what_a_plug_in_may_not_do_is_refused_by_its_name(workshop: Workshop, body: str, said: str) -> None:
    name = workshop.write(body)
    with pytest.raises(Misconfigured) as refused:
        workshop.load(name)
    assert f"plug-in {name}" in str(refused.value)
    assert said in str(refused.value)


def test_two_plug_ins_can_not_take_one_name(workshop: Workshop) -> None:
    body = 'PROJECTIONS = {"stripe.customer.created": project}'
    first, second = workshop.write(body), workshop.write(body)
    with pytest.raises(Misconfigured, match=f"plug-in {second}: 'stripe.customer.created' has a projection already"):
        workshop.load(first, second)


@pytest.mark.parametrize("name", ["acme_redrvie", "acme.redrive", "acme_redrive.py"])
def test_a_module_that_is_not_there_is_named_with_the_folder_that_was_searched(workshop: Workshop, name: str) -> None:
    with pytest.raises(Misconfigured, match="no module of that name is installed or in") as refused:
        workshop.load(name)
    assert str(workshop.folder) in str(refused.value)


def test_a_file_beside_redrive_toml_does_not_take_the_place_of_a_library(workshop: Workshop) -> None:
    (workshop.folder / "this.py").write_text("raise SystemExit('shadowed')")
    with pytest.raises(Misconfigured, match="defines none of"):
        workshop.load("wsgiref")
    assert sys.path[-1] == str(workshop.folder)


def test_a_source_in_redrive_toml_may_be_of_a_plug_ins_provider(workshop: Workshop) -> None:
    name = workshop.write('PROVIDERS = [acme]\nPROJECTIONS = {"acme": project}')
    path = workshop.folder / "redrive.toml"
    path.write_text(f'plugins = ["{name}"]\n[sources.shop]\nprovider = "acme"\nsecrets = ["s"]\n')
    assert load_file(path).sources["shop"].provider == "acme"
    path.write_text(f'plugins = "{name}"\n')
    with pytest.raises(Misconfigured, match="plugins: Input should be a valid tuple"):
        load_file(path)


def test_a_provider_without_samples_says_so(workshop: Workshop) -> None:
    workshop.load(workshop.write('PROVIDERS = [acme]\nPROJECTIONS = {"acme": project}'))
    with pytest.raises(InvalidSelection, match="no samples of provider 'acme'"):
        story(Source("shop", providers.PROVIDERS["acme"], Secrets(("s",))), "cus_1")


def test_no_type_that_redrive_reads_is_free_for_a_plug_in() -> None:
    """`READS` is what the projections do: every fixture that becomes facts, or an error, is of a type in it."""
    read = set()
    for fixture in READABLE:
        folded = fold_record(of_fixture(fixture))
        assert not folded.letters
        provider, _, kind = folded.events[0].type.partition(".")
        if provider in projections.READS and any(event.status == "applied" or event.error for event in folded.events):
            assert kind in projections.READS[provider], fixture
            read.add(provider)
    assert read == {"stripe", "aircall", "retell", "telnyx"}, "those that read anything, and have fixtures of it"


def test_the_views_that_no_table_may_take_are_those_that_we_declare() -> None:
    declared = {
        line.removeprefix("CREATE OR REPLACE VIEW ").split()[0].partition(".")[2]
        for name in ("views.sql", "event_view.sql")
        for line in (Path(facts.__file__).parent / name).read_text().splitlines()
        if line.startswith("CREATE OR REPLACE VIEW")
    }
    assert declared - {table.name for table in facts.TABLES} == facts.VIEWS_OVER_SEVERAL.keys()
