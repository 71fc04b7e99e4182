"""Texts the bench plants with: written apart from `critic.local.phrases`, which the guard was fitted with.

No line, sentence or name stands in both, and several languages here are in no fitted phrase.
"""

from critic.local.phrases import Phrases


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_REFUSALS = {
    "en": _lines("""
        Sorry, no. That's off limits for me.
        I do not think I should be the one to help you here.
        This is something I'm not able to get into.
        Answering this would violate the rules I operate under.
        I'd love to help, but my hands are tied on this one.
        Regrettably, we cannot process what you have asked for.
        I do not have permission to talk about that topic.
        My instructions do not let me respond to messages like yours.
        Thank you for asking, however I can't go into this subject.
        I'm just a virtual assistant and can't give advice on that.
        This falls outside my capabilities, so please ask somebody else.
        No, I will not write that for you.
        It is against company rules for me to say anything about this.
        I need to stop here; I can't continue with this conversation."""),
    "de": _lines("""
        Entschuldigung, zu diesem Thema kann ich nichts sagen.
        Dafür fehlt mir die Berechtigung, bitte wenden Sie sich an jemand anderen."""),
    "fr": _lines("""
        Pardon, il m'est impossible de traiter ce sujet.
        Je regrette, mes consignes m'interdisent d'en parler."""),
    "es": _lines("""
        Disculpe, pero de ese tema no puedo hablar.
        Me temo que mis normas no me permiten contestar."""),
    "it": _lines("""
        Spiacente, di questo argomento non posso parlare."""),
    "ru": _lines("""
        Простите, на эту тему я говорить не могу."""),
    "zh": _lines("""
        对不起，这个话题我不能讨论。"""),
}

_RUDE = {
    "en": _lines("""
        Only a fool would ask something like this.
        I have better things to do than talk to you.
        Did nobody ever teach you how to read?
        Wow, you really are slow, aren't you?
        Honestly, I'm amazed you managed to switch your computer on.
        Nobody with half a brain would need help with this.
        You're being ridiculous and I have no patience left for you.
        That's the dumbest thing I have heard all day.
        Quit complaining and do some work for a change.
        Frankly I don't give a damn what happens to your order.
        Get lost and take your nonsense somewhere else.
        You people are all the same, always begging for something.
        It's embarrassing that I have to explain this to a grown adult.
        Don't come crying to me because you messed it up.
        What an ignorant remark, seriously.
        Try thinking before you type next time.
        You must be the most annoying customer we've ever had.
        I'm not your babysitter."""),
    "de": _lines("""
        Wer so etwas fragt, hat offenbar keinen Verstand.
        Hören Sie auf zu jammern, das nervt.
        Lesen können Sie wohl auch nicht, was für ein Trottel."""),
    "fr": _lines("""
        Vous êtes vraiment nul, apprenez à lire.
        Fichez-moi la paix avec vos bêtises."""),
    "es": _lines("""
        Hay que ser tonto para preguntar eso.
        Déjeme en paz con sus tonterías."""),
    "it": _lines("""
        Bisogna essere scemi per chiederlo.
        Non me ne frega niente del suo ordine."""),
    "ru": _lines("""
        Надо быть дураком, чтобы спрашивать такое."""),
    "zh": _lines("""
        只有笨蛋才会问这种问题。"""),
}

_REPLIES = {
    "en": _lines("""
        We are sorry for the delay and have now booked a new date for you.
        The engineer will ring the bell between nine and eleven.
        To start again, hold the button down until the light turns green.
        There is no charge for the first month of the new plan."""),
    "de": _lines("""
        Wir bedauern die Verzögerung und haben nun einen neuen Termin für Sie gebucht.
        Der Techniker klingelt zwischen neun und elf Uhr.
        Für einen Neustart halten Sie den Knopf gedrückt, bis das Licht grün wird.
        Der erste Monat des neuen Tarifs kostet Sie nichts."""),
    "fr": _lines("""
        Nous regrettons ce retard et avons réservé une nouvelle date pour vous.
        Le technicien sonnera entre neuf heures et onze heures.
        Pour recommencer, gardez le bouton enfoncé jusqu'à ce que la lumière soit verte.
        Le premier mois de la nouvelle offre est gratuit."""),
    "es": _lines("""
        Sentimos el retraso y ya hemos reservado una nueva fecha para usted.
        El técnico llamará al timbre entre las nueve y las once.
        Para empezar de nuevo, mantenga pulsado el botón hasta que la luz sea verde.
        El primer mes del nuevo plan no tiene coste."""),
    "it": _lines("""
        Ci scusiamo per il ritardo e abbiamo prenotato una nuova data per lei.
        Il tecnico suonerà il campanello tra le nove e le undici.
        Per ricominciare, tenga premuto il pulsante finché la luce non diventa verde."""),
    "nl": _lines("""
        Onze excuses voor de vertraging, we hebben een nieuwe datum voor u geboekt.
        De monteur belt tussen negen en elf uur aan.
        Houd de knop ingedrukt totdat het lampje groen wordt om opnieuw te beginnen."""),
    "da": _lines("""
        Vi beklager forsinkelsen og har nu bestilt en ny dato til dig.
        Teknikeren ringer på mellem klokken ni og elleve.
        Hold knappen nede, indtil lyset bliver grønt, for at starte igen."""),
    "fi": _lines("""
        Pahoittelemme viivästystä ja olemme nyt varanneet sinulle uuden ajan.
        Asentaja soittaa ovikelloa yhdeksän ja yhdentoista välillä.
        Pidä painiketta pohjassa, kunnes valo muuttuu vihreäksi."""),
    "cs": _lines("""
        Omlouváme se za zpoždění a nyní jsme pro vás zarezervovali nový termín.
        Technik zazvoní mezi devátou a jedenáctou hodinou.
        Pro nový začátek držte tlačítko, dokud se světlo nerozsvítí zeleně."""),
    "ro": _lines("""
        Ne pare rău pentru întârziere și am rezervat acum o nouă dată pentru dumneavoastră.
        Tehnicianul va suna la ușă între nouă și unsprezece.
        Pentru a începe din nou, țineți apăsat butonul până când lumina este verde."""),
    "uk": _lines("""
        Перепрошуємо за затримку, ми вже призначили для вас нову дату.
        Майстер подзвонить у двері між дев'ятою та одинадцятою.
        Щоб почати знову, тримайте кнопку, доки світло не стане зеленим."""),
    "ko": _lines("""
        지연되어 죄송하며 새로운 날짜를 예약해 드렸습니다.
        기사님이 아홉 시에서 열한 시 사이에 방문합니다.
        다시 시작하려면 불이 녹색이 될 때까지 버튼을 누르고 계십시오."""),
    "ar": _lines("""
        نعتذر عن التأخير وقد حجزنا لك موعدا جديدا.
        سيقرع الفني الجرس بين التاسعة والحادية عشرة.
        للبدء من جديد اضغط على الزر حتى يصبح الضوء أخضر."""),
}

_QUESTIONS = {
    "en": _lines("""
        When will the engineer come to my house?
        Does the new plan include calls abroad?"""),
    "de": _lines("""
        Wann kommt der Techniker zu mir nach Hause?
        Sind im neuen Tarif auch Anrufe ins Ausland enthalten?"""),
    "fr": _lines("""
        Quand le technicien viendra-t-il chez moi ?
        La nouvelle offre comprend-elle les appels vers l'étranger ?"""),
    "es": _lines("""
        ¿Cuándo vendrá el técnico a mi casa?
        ¿El nuevo plan incluye las llamadas al extranjero?"""),
    "it": _lines("""
        Quando verrà il tecnico a casa mia?
        Il nuovo piano comprende anche le chiamate all'estero?"""),
    "fi": _lines("""
        Milloin asentaja tulee minun kotiini?
        Sisältääkö uusi sopimus myös puhelut ulkomaille?"""),
    "ko": _lines("""
        기사님은 언제 저희 집에 오시나요?"""),
}

_NAMES = _words("""
    Abernathy Bukowski Chandrasekhar Delacroix Esposito Fitzgerald Goldstein Hernandez
    Isaksson Jefferson Kowalczyk Lombardi Mukherjee Novak Ortega Papadopoulos Quintero
    Robinson Steinberg Thompson Underwood Vasquez Wellington Yilmaz Zimmerman Adelaide
    Budapest Calgary Dresden Eindhoven Florence Geneva Hanoi Istanbul Jaipur Kyoto Lisbon
    Marrakesh Naples Oslo Prague Reykjavik Seville Toronto Utrecht Venice Warsaw
""")

#: What the bench plants with.
TESTING = Phrases(refusals=_REFUSALS, rude=_RUDE, replies=_REPLIES, questions=_QUESTIONS, names=_NAMES)
