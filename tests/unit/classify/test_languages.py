"""Words of other languages: quotas wait, full mailboxes and unknown recipients stop, accents make no difference."""

from datetime import UTC, datetime

import pytest

from mailfleet_workers.classify import Rules, rule_on
from mailfleet_workers.classify.rule import plain_text
from mailfleet_workers.smtp.base import Phase, Reply

QUOTA = [
    "Quota d'envoi dépassé",
    "Trop de messages envoyés",
    "Versandlimit überschritten",
    "Versandlimit ueberschritten",
    "Zu viele Nachrichten in kurzer Zeit",
    "Ha superado el límite de envíos por hora",
    "Limite de envio excedido",
    "Superato il numero massimo di messaggi inviabili",
    "Przekroczono limit wysyłanych wiadomości",
    "Превышен лимит отправки сообщений",
    "Слишком много писем",
    "发送频率过高",
    "今日发信量已达上限",
    "送信制限を超えました",
]
FULL = [
    "La boîte aux lettres du destinataire est pleine",
    "Postfach ist voll",
    "Buzón lleno",
    "Casella piena",
    "Почтовый ящик переполнен",
    "收件人邮箱已满",
    "宛先のメールボックスがいっぱいです",
]
UNKNOWN = [
    "Utilisateur inconnu",
    "Empfänger unbekannt",
    "Usuario desconocido",
    "Indirizzo inesistente",
    "Nie ma takiego konta",
    "Пользователь не найден",
    "收件人不存在",
    "宛先のメールアドレスが存在しません",
]


def _said(phase: Phase, code: int, text: str) -> tuple[str, str]:
    found = rule_on(
        Reply(code, text), phase, host="*", rules=Rules.builtin(), now=datetime(2026, 3, 1, tzinfo=UTC)
    )
    return found.kind, found.verdict.reason


@pytest.mark.parametrize("text", QUOTA)
@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.EOD])
def test_a_quota_waits_whatever_the_code(text: str, phase: Phase) -> None:
    """Also with a final code, where a reader of codes would drop the mail."""
    assert _said(phase, 550, text)[0] == "wait"
    assert _said(phase, 451, text)[0] == "wait"


@pytest.mark.parametrize("text", FULL)
def test_a_full_mailbox_is_the_recipients(text: str) -> None:
    """552 stops for the recipient, 452 waits for it, and neither is a quota of ours."""
    assert _said(Phase.RCPT, 552, text) == ("stop", "mailbox full")
    assert _said(Phase.RCPT, 452, text) == ("wait", "mailbox full")


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_recipient_stops(text: str) -> None:
    """For that recipient alone."""
    assert _said(Phase.RCPT, 550, text) == ("stop", "recipient unknown")


def test_accents_go_from_latin_letters_only() -> None:
    """Elsewhere the same mark makes another letter."""
    assert plain_text("Dépassé ÜBER наиболее найден が") == "depasse uber наиболее найден が"
