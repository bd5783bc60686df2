"""The headers of a Google Calendar notification, without a line of the product. Nothing is signed: a token is shared."""

GOOGLE_CALENDAR = "story-google-channel-token"


def google_calendar(channel: str, number: int, state: str, token: str = GOOGLE_CALENDAR) -> dict[str, str]:
    return {
        "X-Goog-Channel-ID": channel,
        "X-Goog-Channel-Token": token,
        "X-Goog-Channel-Expiration": "Tue, 19 Nov 2030 01:13:52 GMT",
        "X-Goog-Resource-ID": "ret08u3rv24htgh289g",
        "X-Goog-Resource-URI": "https://www.googleapis.com/calendar/v3/calendars/me%40example.com/events?alt=json",
        "X-Goog-Resource-State": state,
        "X-Goog-Message-Number": str(number),
    }
