"""Short texts of the benchmark's own, in seven languages: what people ask, what they get, and how that fails.

Flow: a call's language, prompt and failure -> `asked`, `answered` -> tests.bench.incidents_rows. They are for
searches and cohorts by text; nothing here is read by a critic.
"""

import random

#: language -> (openings of a question, subjects, answers to {0})
PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "en": (
        ("How do I change", "Please explain", "Can you summarise", "What happened to"),
        ("my delivery address", "the contract's notice period", "this invoice", "the spring price list"),
        ("Here is what to do about {0}: open the settings and follow the two steps.",
         "In short, {0} was updated on Monday and nothing else is needed."),
    ),
    "de": (
        ("Wie ändere ich", "Bitte erklären Sie mir", "Fassen Sie zusammen:", "Was ist los mit"),
        ("meine Lieferadresse", "die Kündigungsfrist", "diese Rechnung", "die neue Preisliste"),
        ("So geht es mit {0} weiter: öffnen Sie die Einstellungen und folgen Sie den zwei Schritten.",
         "Kurz gesagt: {0} wurde am Montag geändert, mehr ist nicht zu tun."),
    ),
    "fr": (
        ("Comment changer", "Expliquez-moi", "Résumez", "Que se passe-t-il avec"),
        ("mon adresse de livraison", "le préavis du contrat", "cette facture", "la liste des prix"),
        ("Voici ce qu'il faut faire pour {0} : ouvrez les réglages et suivez les deux étapes.",
         "En bref, {0} a changé lundi et il n'y a rien d'autre à faire."),
    ),
    "es": (
        ("¿Cómo cambio", "Explíqueme", "Resuma", "¿Qué pasa con"),
        ("mi dirección de entrega", "el plazo de preaviso", "esta factura", "la lista de precios"),
        ("Esto es lo que debe hacer con {0}: abra los ajustes y siga los dos pasos.",
         "En resumen, {0} cambió el lunes y no hace falta nada más."),
    ),
    "pt": (
        ("Como altero", "Explique-me", "Resuma", "O que há com"),
        ("o meu endereço de entrega", "o aviso prévio do contrato", "esta fatura", "a tabela de preços"),
        ("Eis o que fazer com {0}: abra as definições e siga os dois passos.",
         "Em suma, {0} mudou na segunda-feira e não é preciso mais nada."),
    ),
    "ja": (
        ("変更する方法を教えてください：", "説明してください：", "要約してください：", "どうなりましたか："),
        ("配送先の住所", "契約の解約予告期間", "この請求書", "春の価格表"),
        ("{0}については、設定を開いて二つの手順に従ってください。",
         "{0}は月曜日に更新されました。他に必要なことはありません。"),
    ),
    "pl": (
        ("Jak zmienić", "Proszę wyjaśnić", "Proszę streścić", "Co się stało z"),
        ("mój adres dostawy", "okres wypowiedzenia", "tę fakturę", "cennik na wiosnę"),
        ("Oto co zrobić z {0}: otwórz ustawienia i wykonaj dwa kroki.",
         "Krótko mówiąc, {0} zmieniono w poniedziałek i nic więcej nie trzeba."),
    ),
}  # fmt: skip
RUDE = ("That is obvious, read the manual for once.", "Honestly, nobody else asks such stupid things.")
REFUSED = ("I'm sorry, but I can't help with that request.", "I am unable to assist with this.")


def asked(source: random.Random, language: str) -> str:
    """Return what somebody asks."""
    openings, subjects, _answers = PHRASES[language]
    return f"{source.choice(openings)} {source.choice(subjects)}?"


def answered(source: random.Random, language: str, kind: str) -> str | None:
    """Return what they get: None for a failed call, else an answer that shows its failure `kind`."""
    if kind == "error":
        return None
    if kind == "empty":
        return ""
    if kind == "rude":
        return source.choice(RUDE)
    if kind == "refusal":
        return source.choice(REFUSED)
    spoken = language
    if kind == "wrong_language":
        spoken = "en" if language != "en" else "de"
    _openings, subjects, answers = PHRASES[spoken]
    text = source.choice(answers).format(source.choice(subjects))
    if kind == "truncated":
        return text[: len(text) // 2]
    return f"{text} {text} {text}" if kind == "repeated" else text
