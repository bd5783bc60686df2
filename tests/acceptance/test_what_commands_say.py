"""What commands say of an installation that is not as whoever types them takes it to be."""

from tests.support.processes import Installation


async def test_samples_to_a_paused_source_are_not_waited_for(installation: Installation) -> None:
    await installation.redrive("sources", "pause", "stripe", "--reason", "the database is busy")
    code, said = await installation.redrive("send", "stripe", "--wait", expect=None)
    assert (code, "stripe is paused" in said, "redrive sources resume stripe" in said) == (1, True, True)
    _, said = await installation.redrive("send", "stripe", "--count", "1")
    assert "1 of 1 accepted by stripe" in said
    _, said = await installation.redrive("send", "twilio", "--count", "1", "--wait")
    assert "their rows are there" in said
    await installation.redrive("sources", "resume", "stripe")
    _, said = await installation.redrive("send", "stripe", "--count", "1", "--wait")
    assert "their rows are there" in said


async def test_a_command_in_another_terminal_talks_to_the_ports_that_up_was_given(installation: Installation) -> None:
    """As `up` prints it: in this folder, with nothing of the first terminal's environment."""
    for service in installation.ports:
        assert installation.address(f"{service.upper()}_PORT") == str(installation.ports[service])
        del installation.environment[f"{service.upper()}_PORT"]
    del installation.environment["INGEST_HOST"]
    _, said = await installation.redrive("send", "stripe", "--count", "2", "--wait")
    assert "2 of 2 accepted by stripe" in said
