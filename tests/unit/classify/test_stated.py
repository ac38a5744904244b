"""Times and queue ids in the words of servers."""

from datetime import UTC, datetime

import pytest

from mailfleet_workers.classify.stated import LEAST, MOST, queue_id, stated_wait

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Too many messages. Try again in 92 seconds.", 92),
        ("greylisted for 60 seconds by ZEROSPAM", 60),
        ("Greylisted, please try again in 00:05", None),
        ("try again in 4 seconds", 4),
        ("Please retry in 5 minutes", 300),
        ("please wait 2 hours before sending again", 7200),
        ("Come back in 10 min", 600),
        ("try again in an hour", 3600),
        ("please try again after a few minutes", 300),
        ("locked for 1 day", 86400),
        ("blocked for 30 days", MOST),
        ("retry in 0 seconds", LEAST),
        ("Retry-After: 30s", 30),
        ("Too many messages from sender in last 60", 60),
        ("you sent too many messages in the last hour", 3600),
        ("try again after Sun, 01 Mar 2026 12:10:00 UTC", 600),
        ("try again after Sun, 01 Mar 2026 13:10:00 +0100", 600),
        ("not before 2026-03-01T12:00:30Z please", 30),
        ("blocked until 2026-03-01 12:01:00 UTC", 60),
        ("try again after Sun, 05 Oct 2025 19:22:44 UTC", None),
        ("try again after Sun, 45 Oct 2026 19:22:44 UTC", None),
        ("has exceeded the max emails per hour (313/250 (125%))", None),
        ("you may send 100 messages in 60 minutes", None),
        ("try again later from [198.51.100.1] (AS77712344)", None),
        ("Please try again later. 5 hours of downtime", None),
        ("Veuillez réessayer dans 5 minutes", 300),
        ("Bitte in 10 Minuten erneut", None),
        ("Versuchen Sie es erneut in 10 Minuten", 600),
        ("Zu viele Mails in 60 Minuten", None),
        ("Повторите попытку через 2 часа", 7200),
        ("请在10分钟后重试", 600),
        ("30秒后再试", 30),
        ("1時間後に再度お試しください", 3600),
        ("", None),
    ],
)
def test_a_wait_is_read_where_one_is_stated(text: str, seconds: float | None) -> None:
    """Durations after a word of waiting, windows and moments count; limits and numbers elsewhere do not."""
    assert stated_wait(text, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0 Ok: queued as 4XyZ1a2b3c", "4XyZ1a2b3c"),
        ("Ok: queued as ABC123.", "ABC123"),
        ("Mail OK queued as smtp1,GtxpCgD3abc-", "smtp1,GtxpCgD3abc-"),
        ("OK id=1rAbCd-0001Xy-2Z", "1rAbCd-0001Xy-2Z"),
        ("2.0.0 OK  1712345678 d2e1a72fcca58-6ecf0sm12345b3a.32 - gsmtp", "d2e1a72fcca58-6ecf0sm12345b3a.32"),
        ("2.6.0 <m@x.example> [InternalId=1, Hostname=y] Queued mail for delivery", "m@x.example"),
        ("2.0.0 v1AbCdEf012345 Message accepted for delivery", "v1AbCdEf012345"),
        ("2.0.0 Ok: queued on smtp1.mail.yandex.net 1712345678-AbCdEf", "1712345678-AbCdEf"),
        ("Message Queued (8A6F4A11-2C55-4B1B-9B3D-1E0E64B4F0A5.1)", "8A6F4A11-2C55-4B1B-9B3D-1E0E64B4F0A5.1"),
        ("ok 1712345678 qp 12345", "12345"),
        ("Ok 0102018f6d5a1b2c-3d4e5f60-000000", "0102018f6d5a1b2c-3d4e5f60-000000"),
        ("Great success", None),
        ("2.0.0 Ok", None),
        ("queued as .", None),
        ("OK id=" + "a" * 500, "a" * 128),
    ],
)
def test_a_queue_id_is_read_from_the_final_reply(text: str, expected: str | None) -> None:
    """The forms of the common servers are read, anything else is no id."""
    assert queue_id(text) == expected
