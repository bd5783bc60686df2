"""Aircall's token, which every body of the story carries. There is nothing to sign."""

TOKEN = "5c1f9be0a7d24e36b80c4d7f21e6a953"


def aircall() -> dict[str, str]:
    return {"Content-Type": "application/json"}
