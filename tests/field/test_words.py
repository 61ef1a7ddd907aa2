"""Words and languages as people write them: cases from the field, and others of their kinds."""

import pytest

from nest_demo import model_path
from nest_engine import NestEngine
from nest_engine.generation.request import quotable_sentences
from nest_engine.records import Passage
from nest_engine.retrieval import BM25Retriever
from nest_engine.testing import ScriptedLanguageModel

SHY = "\N{SOFT HYPHEN}"


def bm25(texts: list[str], query: str) -> list[str]:
    """Return the texts that keyword search finds, best first."""
    found = BM25Retriever([Passage(text) for text in texts]).retrieve([query], 5)[0]
    return [passage.text for passage in found]


@pytest.mark.parametrize(
    ("texts", "query"),
    [
        (["北京烤鸭用果木烤制，皮很脆。", "上海小笼包皮薄汁多。"], "烤鸭"),  # 1
        (["पानी ठंडा है।", "पैन नीला है।"], "पानी"),  # 3
        ([f"Die Strom{SHY}ing{SHY}enieure kamen.", "Andere kamen."], "Stromingenieure"),  # 4
        (["Plants use photo-\nsynthesis daily.", "Other things."], "photosynthesis"),  # 5
        (["A price-\ndetermining factor.", "Other things."], "price-determining"),
        (["A price-\ndetermining factor.", "Other things."], "determining"),
        (["A price-\r\n   determining factor.", "Other things."], "price"),
        (["İstanbul kalabalık.", "Ankara sakin."], "istanbul"),  # 6
        (["ISPARTA gül kokar.", "Ankara sakin."], "Isparta"),
        (["Iğdır doğudadır.", "Ankara sakin."], "IĞDIR"),
        (["ığdır doğudadır.", "Ankara sakin."], "IĞDIR"),
        (["Die STRASSE ist nass.", "Der Weg ist trocken."], "Straße"),
        ([f"Die Strom{SHY}\ningenieure kamen.", "Andere kamen."], "Stromingenieure"),
        (["Das Kreis‐\nlaufsystem.", "Anderes."], "Kreislaufsystem"),
        (["The \ufb01lter is clean.", "The pump is clean."], "filter"),
        (["Curac\u0327ao is an island.", "Aruba is another."], "Curaçao"),
        (["Curaçao is an island.", "Aruba is another."], "Curacao"),
        (["Une forêt de chênes.", "Une ville."], "FORET"),
        (["Η Αθήνα είναι πόλη.", "Ο Βόλος."], "ΑΘΗΝΑ"),
        (["Ещё один день.", "Другая ночь."], "еще"),
        (["東京\nタワーは高い。", "富士山は美しい。"], "東京タワー"),
        (["水は冷たい。", "火は熱い。"], "水の温度"),
        (["地下水很冷。", "火很热。"], "水"),
        (["서울은 한국의 수도이다.", "부산은 항구이다."], "서울의 인구"),
        (["น้ำเดือดที่ร้อยองศา", "ปลาอยู่ในทะเล"], "น้ำ"),
        (["ປາຢູ່ໃນນ້ຳ", "ໝາ"], "ປາ"),
        (["مُحَمَّد كاتب.", "علي طبيب."], "محمد"),
        (["أحمد كاتب.", "علي طبيب."], "احمد"),
        (["شرب القهوة.", "شرب الشاي."], "قهوة"),
        (["شرب قهوة.", "شرب شايا."], "القهوة"),
        (["ثمن للكتاب الجديد.", "قلم."], "الكتاب"),
        (["ثمن الكتاب الجديد.", "قلم."], "للكتاب"),
        (["قواعد للغة العربية.", "قلم."], "اللغة"),
        (["قواعد اللغة العربية.", "قلم."], "وللغة"),
        (["الليل طويل.", "قلم."], "لليل"),
        (["ثمن بكتاب جديد.", "قلم."], "كتاب"),
        (["كتاب جديد.", "قلم."], "لكتاب"),
        (["وبالكتاب الجديد.", "قلم."], "كتاب"),
        (["مدينة كبيرة.", "قلم."], "المدينه"),
        (["هو مسؤول كبير.", "قلم."], "مسئول"),
        (["شئون الطلاب.", "قلم."], "شؤون"),
        (["هذا شيء كبير.", "قلم."], "شئ"),
        (["ٱلرَّحْمَٰن كريم.", "قلم."], "الرحمن"),
        (["می\u200cخواهم بروم", "نمی دانم"], "میخواهم"),
        (["کتاب است", "قلم"], "كتاب"),
        (["שָׁלוֹם עולם", "להתראות"], "שלום"),
        (["صـــورة جميلة", "كلام"], "صورة"),
        (["१९६५ में जन्म", "२००१ में"], "1965"),
        (["Zero\u200bwidth text.", "Other text."], "zerowidth"),
        (["Ｆｕｌｌ ｗｉｄｔｈ.", "Half."], "full"),
        (["क\u093cलम", "किताब"], "क़लम"),
        (["中国人喜欢喝绿茶和红茶。", "咖啡很苦。"], "什么是茶?"),
        (["물이 100도에서 끓는다.", "기름이 뜨겁다."], "물은"),
        (["Łódź leży w Polsce.", "Kraków"], "Lodz"),
        (["Œuvre d'art.", "Ville"], "oeuvre"),
        (["München liegt im Süden.", "Berlin"], "Muenchen"),
        (["फ़िल्म अच्छी है", "किताब"], "फिल्म"),
        (["हिन्दी भाषा", "किताब"], "हिंदी"),
        (["पाँच लोग", "किताब"], "पांच"),
        (['ארה"ב גדולה', "ישראל"], "ארה״ב"),
        (["Здоровʼя людини", "Робота"], "здоров'я"),
        (["Helium\u200bgas is light.", "Neon"], "Helium gas"),
        (["COVID-19 spread.", "Flu"], "COVID19"),
        (["Set max_tokens to 5.", "Other"], "max tokens"),
        (["The iPhone15 is new.", "Other"], "iphone 15"),
        (["A walk of 10km.", "Other"], "10 km"),
        (["A walk of 10 km.", "Other"], "10km"),
        (["Прошёл км пути.", "Другое"], "10км"),
        (["It costs 5,500 dollars.", "Other"], "5500"),
        (["It costs 5500 dollars.", "Other"], "5,500"),
        (["Es kostet 5.500 Euro.", "Anderes"], "5500"),
        (["Cela coûte 5\u202f500 euros.", "Autre"], "5500"),
        (["About 12 000 people.", "Other"], "12000"),
        (["The U.S.A. is big.", "Other"], "USA"),
        (["The USA is big.", "Other"], "U.S.A."),
        (["Her Ph.D. thesis.", "Other"], "PhD"),
        (["Node.js is fast.", "Other"], "nodejs"),
        (["הבית גדול", "אחר"], "בית"),
        (["בבית גדול", "אחר"], "בית"),
        (["Oʻzbekiston katta.", "Boshqa"], "O'zbekiston"),
        (["Hawaiʻi is an island.", "Other"], "Hawaii"),
        (["The Qurʾān is old.", "Other"], "Quran"),
        (["Aarhus er en by.", "Andet"], "Århus"),
        (["Århus er en by.", "Andet"], "Aarhus"),
        (["Søren er født.", "Andet"], "Soeren"),
        (["Plants use photo-\rsynthesis daily.", "Other"], "photosynthesis"),
        (["کتاب\u200cها را خواند", "قلم"], "کتاب"),
        (["می\u200cروم به خانه", "قلم"], "می روم"),
        (["می روم به خانه", "قلم"], "می\u200cروم"),
        (["خانۀ ما بزرگ است", "قلم"], "خانه"),
        (["ہم لوگ", "قلم"], "هم"),
        (["كتاب ومدرسة", "قلم"], "مدرسة"),
        (["الثمن ٥٬٥٠٠ ريال", "قلم"], "5500"),
        (["价格是５，５００元", "其他"], "5500"),
        (["कीमत 12,34,567 रुपये", "अन्य"], "1234567"),
        (["It costs 1234567 rupees.", "Other"], "12,34,567"),
        (["അവന\u0d4d\u200d വന്നു", "വേറെ"], "അവൻ"),
        (["হঠাৎ এল", "অন্য"], "হঠাত\u09cd\u200d"),
        (["เเม่น้ำ", "ปลา"], "แม่น้ำ"),
        (["Halley's comet.", "Other"], "halleys"),
        (["Don't go.", "Other"], "dont"),
    ],
)  # fmt: skip
def test_keyword_search_finds_exactly_the_first(texts: list[str], query: str) -> None:
    assert bm25(texts, query) == texts[:1]


@pytest.mark.parametrize(
    ("texts", "query"),
    [
        (["東京タワーは三百三十三メートルです。", "富士山は高い。"], "東京タワーの高さ"),  # 2
        (["Es ist schön.", "Es ist schon Abend."], "schön"),
        (["Send an e-mail.", "Send a mail."], "email"),
        (["纯铁熔点为1538度。", "金的熔点为1064度。"], "铁的熔点"),
    ],
)
def test_keyword_search_finds_the_first_before_others(texts: list[str], query: str) -> None:
    assert bm25(texts, query)[0] == texts[0]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        # 7
        ("who discovered helium?", "Helium was discovered in 1868 in the spectrum of the Sun."),
        ("Who Discovered Helium?", "Helium was discovered in 1868 in the spectrum of the Sun."),
        ("WHO DISCOVERED HELIUM?", "Helium was discovered in 1868 in the spectrum of the Sun."),
        ("Welche Farbe hat die Haustür?", "Die Haustür ist grün gestrichen."),  # 8
        (  # 9
            "What is the efficiency of the filter?",
            "The \ufb01lter reaches an e\ufb03ciency of 40 percent.",
        ),
        ("Where is Curaçao?", "Curac\u0327ao lies off the coast of Venezuela."),
        (  # 10
            "Wie heiß ist die Oberfläche der Sonne?",
            "The surface of the Sun has 5,500 degrees Celsius.",
        ),
        (
            "how hot must water get before it turns to steam",
            "H2O boils at 100 degrees Celsius.",
        ),
        ("烤鸭用什么木？", "北京烤鸭用果木烤制，皮很脆。"),
        ("पानी कैसा है?", "पानी ठंडा है।"),
        ("Who is Muller?", "Müller is a baker."),
        ("Wer ist Müller?", "Mu\u0308ller ist Bäcker."),
        ("Wann wurde Adenauer geboren?", "Konrad Adenauer wurde am 5. Januar 1876 geboren."),
    ],
)  # fmt: skip
def test_no_filter_of_words_keeps_a_passage_from_being_quoted(question: str, text: str) -> None:
    engine = NestEngine(ScriptedLanguageModel(text))
    output = engine.ask(question, passages=[Passage(text)])
    assert text in output.prompt
    assert output.text.strip() == text
    assert [citation.cited_text for citation in output.citations] == [text]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Welche Farbe hat die Haustür?", "Die Haustür ist grün gestrichen."),
        ("Какого цвета дверь?", "Дверь зелёная."),
        ("Hvor ligger nøglen?", "Nøglen er under måtten."),
        ("Gdzie jest klucz?", "Klucz leży pod wycieraczką."),
        ("Who is the mayor of Zagreb?", "The mayor of Zagreb is new."),
    ],
)
def test_words_that_every_question_has_are_not_looked_for(question: str, text: str) -> None:
    """By a tokenizer of English, for which all words of another language are rare."""
    engine = NestEngine.from_pretrained(model_path())
    assert engine.nearness.is_answered(question, [text])
    assert not engine.nearness.is_answered(question, ["Argon is a gas that fills lamps."])


def test_capitals_make_no_difference_to_trust() -> None:  # 7
    passages = [
        Passage("Helium was discovered in 1868 in the spectrum of the Sun. It is light."),
        Passage("Neon was found in London."),
    ]
    engine = NestEngine(ScriptedLanguageModel(""))
    trusts = [
        quotable_sentences(
            engine.language_model.tokenizer, passages, asked, engine.config, engine.nearness
        )[0]
        for asked in ("who discovered helium?", "Who Discovered Helium?", "WHO DISCOVERED HELIUM?")
    ]
    assert trusts[0] == trusts[1] == trusts[2] is not None
