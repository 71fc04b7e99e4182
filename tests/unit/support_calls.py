"""Ordinary support calls in several languages, written for the tests: in no fitted phrase, in no data set."""

from critic.local import Texts

#: (language, question, good reply)
REPLIES = (
    (
        "en",
        "My kettle leaks from the base, is it still under warranty?",
        "Yes, your kettle is covered. The warranty runs for two years from the day you bought it, "
        "so please pack the kettle, print the label we sent you and drop it at any post office. "
        "We will repair it within ten days.",
    ),
    (
        "en",
        "How do I add a second person to my plan?",
        "Open the app, choose Members and then Invite. Enter the other person's e-mail address "
        "and they will get a link to join your plan. Each extra person costs 4 euros a month.",
    ),
    (
        "de",
        "Wie lange dauert der Versand nach Österreich?",
        "Der Versand nach Österreich dauert in der Regel drei bis fünf Werktage. Sobald Ihre "
        "Bestellung unser Lager verlässt, erhalten Sie eine E-Mail mit der Sendungsnummer.",
    ),
    (
        "fr",
        "Comment puis-je changer l'adresse de livraison de ma commande ?",
        "Vous pouvez modifier l'adresse de livraison tant que la commande n'est pas expédiée. "
        "Ouvrez « Mes commandes », choisissez la commande, puis « Modifier l'adresse ».",
    ),
    (
        "es",
        "¿Cómo puedo cancelar mi suscripción?",
        "Para cancelar la suscripción, entre en su cuenta, abra Facturación y elija Cancelar "
        "suscripción. Seguirá teniendo acceso hasta el final del mes que ya ha pagado.",
    ),
    (
        "it",
        "Dove trovo la fattura del mio ultimo ordine?",
        "Trova la fattura nella sua area personale, alla voce Ordini. Apra l'ultimo ordine e "
        "scelga Scarica fattura: il documento è in formato PDF.",
    ),
    (
        "pt",
        "O meu pedido chegou com uma peça em falta, o que devo fazer?",
        "Lamentamos que falte uma peça no seu pedido. Envie-nos uma fotografia da embalagem e o "
        "número do pedido, e enviaremos a peça em dois dias, sem custos.",
    ),
    (
        "nl",
        "Kan ik mijn abonnement een maand pauzeren?",
        "Ja, u kunt uw abonnement een maand pauzeren. Ga naar Instellingen, kies Abonnement en "
        "klik op Pauzeren. In die maand betaalt u niets.",
    ),
    (
        "sv",
        "Hur byter jag lösenord i appen?",
        "Öppna appen, gå till Inställningar och välj Säkerhet. Där kan du byta lösenord genom att "
        "först skriva in det gamla och sedan det nya.",
    ),
    (
        "pl",
        "Jak mogę zwrócić buty, które są za małe?",
        "Buty można zwrócić w ciągu 30 dni od zakupu. Proszę zalogować się na konto, wybrać "
        "zamówienie i kliknąć Zwrot, a następnie nadać paczkę w dowolnym punkcie.",
    ),
    (
        "ru",
        "Как мне вернуть деньги за отменённый заказ?",
        "Деньги за отменённый заказ вернутся на вашу карту в течение пяти рабочих дней. Если они "
        "не пришли, напишите нам номер заказа, и мы проверим платёж.",
    ),
    (
        "ja",
        "注文した商品の配送状況を確認したいです。",
        "マイページの「注文履歴」から配送状況をご確認いただけます。商品はすでに発送済みで、明日お届けの予定です。",
    ),
    (
        "zh",
        "我的订单什么时候可以送到？",
        "您的订单已经从仓库发出，预计后天送到。您可以在“我的订单”页面查看物流信息。",
    ),
)

#: A question, what was retrieved for it, and a reply that keeps to it.
GROUNDED = Texts(
    "How long can I return a lamp?",
    "You can return a lamp within 30 days of delivery. It must be unused and in its original box, and the "
    "refund of the full price reaches your card after 7 days.",
    (
        "Returns. Lamps and lights can be returned within 30 days of delivery if they are unused and "
        "in their original box. Refunds of the full price reach the card after 7 days. Bulbs cannot be "
        "returned.",
        "Delivery. We deliver from Monday to Friday between 8 and 18.",
    ),
)


def ordinary_calls() -> list[Texts]:
    """Return the replies as calls."""
    return [Texts(question, reply) for _, question, reply in REPLIES]
