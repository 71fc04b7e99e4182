"""Texts written for planting failures: refusals, rude lines, replies in another language, other names.

Only `critic.local.plants` and what fits a guard read these. The bench plants with a set of its own
(`tests.bench.plant_phrases`), so that what is measured was not read here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Phrases:
    """What plants are made of.

    Attributes:
        refusals, rude: lines by ISO 639-1 code; English must be there, it serves for languages that are not.
        replies: sentences of an ordinary support reply by code, for answers in the wrong language.
        questions: an ordinary user's, for answers in the language of nobody who asked.
        names: people, places and companies to swap names with.
    """

    refusals: Mapping[str, tuple[str, ...]]
    rude: Mapping[str, tuple[str, ...]]
    replies: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_REFUSALS = {
    "en": _lines("""
        I'm sorry, but I can't help with that request.
        I cannot assist with this.
        As an AI language model, I am not able to answer that question.
        Unfortunately I am unable to provide this information.
        I won't be able to do that for you.
        I'm afraid that is not something I can discuss.
        I have to decline this request because it goes against my guidelines.
        Sorry, this is outside of what I can help you with.
        I apologize, but I am not permitted to share that.
        My apologies, I can't comply with your request.
        I don't have the ability to do this. Please contact a professional.
        I'm not comfortable answering this, and I would rather not.
        We are not able to fulfil your request at this time.
        I must refuse. It would not be appropriate for me to continue.
        I regret that our content policy prevents me from giving an answer here.
        That question I cannot answer.
        This topic is one I stay away from.
        No comment.
        You will have to ask a human about this, I was told not to.
        I was not made for questions of this kind.
        Let us talk about something else instead.
        Such a message gets no answer from me.
        Our terms do not allow a reply to this.
        I have been instructed not to give opinions on these matters.
        There is nothing I can say about it.
        Please consult a qualified person, because I may not advise you.
        Let me be clear that I will never produce content like that.
        That is private, so my lips are sealed.
        Answers to this are not available from this assistant.
        I would prefer not to respond."""),
    "de": _lines("""
        Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.
        Leider kann ich diese Anfrage nicht beantworten.
        Als KI-Modell bin ich dazu nicht in der Lage.
        Diese Auskunft darf ich nicht geben."""),
    "fr": _lines("""
        Je suis désolé, mais je ne peux pas vous aider avec cette demande.
        Malheureusement, je ne suis pas en mesure de répondre.
        Je ne suis pas autorisé à donner cette information."""),
    "es": _lines("""
        Lo siento, pero no puedo ayudarle con esa solicitud.
        Lamentablemente no puedo responder a esa pregunta.
        No estoy autorizado a dar esa información."""),
    "it": _lines("""
        Mi dispiace, ma non posso aiutarla con questa richiesta.
        Purtroppo non sono in grado di rispondere a questa domanda."""),
    "pt": _lines("""
        Desculpe, mas não posso ajudar com esse pedido.
        Infelizmente não consigo responder a essa pergunta."""),
    "nl": _lines("""
        Het spijt me, maar daar kan ik u niet mee helpen.
        Helaas kan ik deze vraag niet beantwoorden."""),
    "sv": _lines("""
        Jag är ledsen, men jag kan inte hjälpa till med det.
        Tyvärr kan jag inte svara på den frågan."""),
    "pl": _lines("""
        Przykro mi, ale nie mogę pomóc w tej sprawie.
        Niestety nie jestem w stanie odpowiedzieć na to pytanie."""),
    "tr": _lines("""
        Üzgünüm, bu konuda size yardımcı olamam.
        Maalesef bu soruya yanıt veremem."""),
    "ru": _lines("""
        Извините, но я не могу помочь с этим запросом.
        К сожалению, я не могу ответить на этот вопрос."""),
    "zh": _lines("""
        抱歉，我无法帮助您处理这个请求。
        很遗憾，我不能回答这个问题。"""),
    "ja": _lines("""
        申し訳ございませんが、そのご要望にはお応えできません。
        残念ながら、そのご質問にはお答えいたしかねます。"""),
}

_RUDE = {
    "en": _lines("""
        That is a really stupid question.
        Are you an idiot, or did you just not read what I wrote?
        Stop wasting my time.
        I don't care about your problem.
        Figure it out yourself, it is not that hard.
        Use your brain for once.
        You clearly have no idea what you are talking about.
        Even a child could understand this, but apparently you can't.
        It is your own fault, so deal with it.
        How dumb can one person be?
        People like you are the reason nobody enjoys this job.
        Go away and read the manual before you bother me again.
        Honestly, your message was pathetic.
        I am sick of explaining such ridiculous things to clueless people.
        Shut up and listen.
        Not my problem. Google it.
        What a useless thing to ask, you moron.
        You are too lazy to look it up, so here is what you could have found alone.
        Who cares what you want?
        Stop whining.
        I already told you, are you deaf?
        Nobody asked for your silly opinion.
        You again? I thought we were done with this.
        Is it really so difficult to follow a simple instruction?
        I am not paid enough to answer this sort of thing.
        Congratulations, genius, you broke it.
        Maybe computers are just not for someone like you.
        I couldn't care less whether your parcel arrives.
        My cat would have worked this out faster than you did.
        Why would anybody want to talk to you for so long?
        Oh please, not another one of these.
        You should be ashamed of wasting everybody's afternoon.
        Write properly if you expect me to take you seriously.
        I doubt you would understand the answer anyway.
        Bravo, that took you only three attempts.
        Go and annoy another person.
        You sound like a spoiled little child.
        Do you ever listen to yourself?
        I have explained it twice, so either you are slow or you don't want to get it.
        That excuse is as weak as the rest of what you wrote.
        Were you born yesterday?
        Take your complaint and throw it in the bin.
        Normal people manage this without crying for help.
        What do you expect me to do, hold your hand?
        Save your breath, you are wrong as always.
        You got what you deserve.
        Typical. You want everything and do nothing for it.
        No wonder nobody wants to work with you.
        I hope you are not like this at home.
        If you had paid attention, we would not be having this talk."""),
    "de": _lines("""
        Das ist eine ziemlich dumme Frage.
        Sind Sie zu faul, das selbst nachzulesen?
        Ihr Problem ist mir egal.
        Verschwenden Sie nicht meine Zeit, Sie Idiot.
        Selbst schuld, wenn Sie so dämlich sind."""),
    "fr": _lines("""
        Quelle question stupide.
        Vous me faites perdre mon temps, imbécile.
        Ce n'est pas mon problème, débrouillez-vous."""),
    "es": _lines("""
        Qué pregunta más estúpida.
        No me haga perder el tiempo, idiota.
        No es mi problema, búsquelo usted mismo."""),
    "it": _lines("""
        Che domanda stupida.
        Mi fa solo perdere tempo, idiota.
        Non è un mio problema, si arrangi."""),
    "pt": _lines("""
        Que pergunta estúpida.
        Não me faça perder tempo, idiota.
        Isso não é problema meu, se vire."""),
    "nl": _lines("""
        Wat een domme vraag.
        Dat is niet mijn probleem, sukkel.
        Verspil mijn tijd niet langer."""),
    "sv": _lines("""
        Vilken dum fråga.
        Det är inte mitt problem, idiot."""),
    "pl": _lines("""
        Co za głupie pytanie.
        To nie mój problem, nie marnuj mojego czasu."""),
    "tr": _lines("""
        Ne kadar aptal bir soru.
        Bu benim sorunum değil, zamanımı harcama."""),
    "ru": _lines("""
        Какой глупый вопрос.
        Это не моя проблема, идиот.
        Не тратьте моё время."""),
    "zh": _lines("""
        这个问题真愚蠢。
        这不关我的事，别浪费我的时间。"""),
    "ja": _lines("""
        そんなくだらない質問をするなんて馬鹿ですね。
        知るか、自分で調べろ。"""),
}

_REPLIES = {
    "en": _lines("""
        Thank you for your message, we have looked into it.
        You can change this in your settings under the second tab.
        The parcel left our warehouse yesterday and will be with you soon.
        Please send us the number that is printed on your invoice.
        If it happens again, let us know and we will call you back.
        The amount has been returned to the card you paid with."""),
    "de": _lines("""
        Vielen Dank für Ihre Nachricht, wir haben uns die Sache angesehen.
        Sie können das in den Einstellungen unter dem zweiten Reiter ändern.
        Das Paket hat unser Lager gestern verlassen und wird bald bei Ihnen sein.
        Bitte senden Sie uns die Nummer, die auf der Rechnung steht.
        Falls es noch einmal vorkommt, melden Sie sich, und wir rufen Sie zurück.
        Der Betrag wurde auf die Karte zurückgebucht, mit der Sie bezahlt haben.
        Zuerst schalten Sie das Gerät aus und warten eine Minute."""),
    "fr": _lines("""
        Merci pour votre message, nous avons examiné la question.
        Vous pouvez modifier cela dans les paramètres, sous le deuxième onglet.
        Le colis a quitté notre entrepôt hier et sera bientôt chez vous.
        Veuillez nous envoyer le numéro qui figure sur la facture.
        Si cela se reproduit, dites-le-nous et nous vous rappellerons.
        Le montant a été remboursé sur la carte avec laquelle vous avez payé."""),
    "es": _lines("""
        Gracias por su mensaje, hemos revisado el asunto.
        Puede cambiarlo en la configuración, en la segunda pestaña.
        El paquete salió ayer de nuestro almacén y llegará pronto.
        Por favor, envíenos el número que aparece en la factura.
        Si vuelve a ocurrir, avísenos y le llamaremos.
        El importe se ha devuelto a la tarjeta con la que pagó."""),
    "it": _lines("""
        Grazie per il messaggio, abbiamo esaminato la questione.
        Può modificarlo nelle impostazioni, nella seconda scheda.
        Il pacco ha lasciato ieri il nostro magazzino e arriverà presto.
        Ci invii per favore il numero che si trova sulla fattura.
        Se dovesse succedere di nuovo, ce lo faccia sapere e la richiameremo."""),
    "pt": _lines("""
        Obrigado pela sua mensagem, já analisamos o assunto.
        Você pode alterar isso nas configurações, na segunda aba.
        O pacote saiu ontem do nosso armazém e chegará em breve.
        Por favor, envie-nos o número que está na fatura.
        Se isso acontecer de novo, avise-nos e nós ligaremos para você."""),
    "nl": _lines("""
        Bedankt voor uw bericht, wij hebben ernaar gekeken.
        U kunt dit wijzigen in de instellingen, onder het tweede tabblad.
        Het pakket heeft gisteren ons magazijn verlaten en is snel bij u.
        Stuur ons alstublieft het nummer dat op de factuur staat.
        Als het nog eens gebeurt, laat het ons weten en wij bellen u terug."""),
    "sv": _lines("""
        Tack för ditt meddelande, vi har tittat på saken.
        Du kan ändra det i inställningarna under den andra fliken.
        Paketet lämnade vårt lager i går och kommer snart till dig.
        Skicka oss gärna numret som står på fakturan.
        Om det händer igen, hör av dig så ringer vi upp."""),
    "pl": _lines("""
        Dziękujemy za wiadomość, sprawdziliśmy tę sprawę.
        Można to zmienić w ustawieniach, w drugiej zakładce.
        Paczka opuściła wczoraj nasz magazyn i wkrótce będzie u Pana.
        Prosimy o przesłanie numeru, który jest na fakturze.
        Jeśli to się powtórzy, proszę dać nam znać, a my oddzwonimy."""),
    "tr": _lines("""
        Mesajınız için teşekkür ederiz, konuyu inceledik.
        Bunu ayarlarda ikinci sekmeden değiştirebilirsiniz.
        Paket dün depomuzdan çıktı ve yakında size ulaşacak.
        Lütfen bize faturada yazan numarayı gönderin."""),
    "ru": _lines("""
        Спасибо за ваше сообщение, мы рассмотрели этот вопрос.
        Вы можете изменить это в настройках на второй вкладке.
        Посылка вчера покинула наш склад и скоро будет у вас.
        Пожалуйста, пришлите нам номер, который указан в счёте."""),
    "zh": _lines("""
        感谢您的留言，我们已经查看了这个问题。
        您可以在设置的第二个标签页中更改。
        包裹昨天已经离开我们的仓库，很快就会送到。
        请把发票上的号码发给我们。"""),
    "ja": _lines("""
        お問い合わせありがとうございます。内容を確認いたしました。
        設定の二番目のタブから変更できます。
        荷物は昨日倉庫を出ましたので、まもなく届きます。
        請求書に記載されている番号をお送りください。"""),
}

_QUESTIONS = {
    "en": _lines("""
        How do I change the name on my invoice?
        My last payment failed, what should I do now?
        Is there a way to see older versions?"""),
    "de": _lines("""
        Wie ändere ich den Namen auf meiner Rechnung?
        Meine letzte Zahlung hat nicht geklappt, was soll ich jetzt tun?
        Kann ich ältere Fassungen noch sehen?
        Und was kostet das?"""),
    "fr": _lines("""
        Comment changer le nom sur ma facture ?
        Mon dernier paiement n'a pas marché, que dois-je faire ?
        Est-ce qu'on peut encore voir les anciennes versions ?
        Et pour trois personnes ?"""),
    "es": _lines("""
        ¿Cómo cambio el nombre de mi factura?
        Mi último pago no ha funcionado, ¿qué hago ahora?
        ¿Se pueden ver todavía las versiones anteriores?"""),
    "it": _lines("""
        Come cambio il nome sulla mia fattura?
        Il mio ultimo pagamento non è andato a buon fine, cosa devo fare?"""),
    "pt": _lines("""
        Como é que mudo o nome na minha fatura?
        O meu último pagamento falhou, o que devo fazer agora?"""),
    "nl": _lines("""
        Hoe verander ik de naam op mijn factuur?
        Mijn laatste betaling is niet gelukt, wat moet ik nu doen?"""),
    "sv": _lines("""
        Hur ändrar jag namnet på min faktura?
        Min senaste betalning gick inte igenom, vad ska jag göra nu?"""),
    "pl": _lines("""
        Jak zmienić nazwisko na mojej fakturze?
        Moja ostatnia płatność się nie udała, co mam teraz zrobić?"""),
    "tr": _lines("""
        Faturamdaki ismi nasıl değiştirebilirim?
        Son ödemem olmadı, şimdi ne yapmam gerekiyor?"""),
    "ru": _lines("""
        Как изменить имя в моём счёте?
        Последний платёж не прошёл, что мне теперь делать?"""),
    "zh": _lines("""
        怎么修改发票上的名字？
        我上次付款失败了，现在该怎么办？"""),
    "ja": _lines("""
        請求書の名前を変更するにはどうすればよいですか。
        前回の支払いができませんでした。どうしたらいいですか。"""),
}

_NAMES = _words("""
    Alvarez Bergstrom Castellano Dubrovnik Eriksen Fontaine Gallagher Hashimoto Ivanova
    Jankowski Kilimanjaro Lindqvist Montenegro Nakamura Okonkwo Petrovic Quigley Rasmussen
    Sokolov Takahashi Ullman Valparaiso Whitfield Xavier Yamada Zurich Aberdeen Bratislava
    Cordoba Denver Edmonton Fresno Gdansk Helsinki Izmir Jakarta Krakow Lagos Melbourne
    Nairobi Osaka Portland Quito Rotterdam Santiago Tallinn Uppsala Vilnius Winnipeg Yerevan
    Zagreb Brightwater Coldstone Dunmore Everhart Fairbanks Greystone Holloway Ironwood
""")

#: What the guard is fitted with.
FITTING = Phrases(refusals=_REFUSALS, rude=_RUDE, replies=_REPLIES, questions=_QUESTIONS, names=_NAMES)
