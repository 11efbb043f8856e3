"""Short real texts in many languages, with the charsets that pages in them were (and are) written in.

Written for these tests: a few plain facts each. `word` goes into links. Each can be encoded in all of its charsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and its charsets by their names in the Encoding standard."""

    language: str
    charsets: tuple[str, ...]
    title: str
    word: str
    paragraph: str


TEXTS: Final = (
    Text(
        "Chinese, simplified",
        ("gbk", "gb18030"),
        "长江：中国最长的河流",
        "河流",
        "长江全长约六千三百公里，发源于青藏高原，流经十一个省级行政区，在上海注入东海。它是亚洲最长的河流，也"
        "是世界第三长河。沿岸有重庆、武汉、南京等大城市，三峡大坝是世界上规模最大的水电站。",
    ),
    Text(
        "Chinese, traditional",
        ("big5",),
        "玉山：臺灣最高的山峰",
        "山峰",
        "玉山海拔三千九百五十二公尺，是臺灣最高的山峰，位於南投縣、嘉義縣與高雄市的交界處。山上冬季會下雪，登"
        "山客必須事先申請入園許可。國家公園成立於一九八五年，園區內有黑熊、帝雉等珍貴動物。",
    ),
    Text(
        "Japanese",
        ("shift_jis", "euc-jp", "iso-2022-jp"),
        "富士山の高さと歴史",
        "富士山",
        "富士山は標高三千七百七十六メートルで、日本で一番高い山です。静岡県と山梨県にまたがり、最後の噴火は一"
        "七〇七年でした。毎年夏になると、たくさんの人が頂上をめざして登ります。",
    ),
    Text(
        "Korean",
        ("euc-kr",),
        "한라산: 대한민국에서 가장 높은 산",
        "한라산",
        "한라산은 제주도 한가운데에 있으며 높이는 천구백사십칠 미터입니다. "
        "꼭대기에는 백록담이라는 호수가 있고, 봄에는 철쭉이 아름답게 핍니다. "
        "많은 사람들이 해마다 이 산을 찾아옵니다.",
    ),
    Text(
        "Russian",
        ("windows-1251", "koi8-r", "iso-8859-5", "ibm866"),
        "Озеро Байкал - самое глубокое озеро мира",
        "озеро",
        "Байкал находится на юге Восточной Сибири. Его наибольшая глубина составляет 1642 метра, а "
        "возраст оценивается примерно в двадцать пять миллионов лет. В озере содержится около пятой "
        "части мировых запасов пресной воды.",
    ),
    Text(
        "Ukrainian",
        ("windows-1251", "koi8-u"),
        "Говерла: найвища вершина України",
        "гора",
        "Говерла є найвищою горою України, її висота дорівнює 2061 метру над рівнем моря. Вона "
        "розташована в Карпатах, на межі двох областей. Щороку на вершину піднімаються тисячі людей, бо "
        "звідти відкривається чудовий краєвид.",
    ),
    Text(
        "Bulgarian",
        ("windows-1251",),
        "Мусала: най-високият връх на Балканите",
        "връх",
        "Мусала е връх в Рила планина и е висок 2925 метра. Той е най-високият връх в България и на "
        "целия Балкански полуостров. На върха има метеорологична станция, която работи от 1933 година.",
    ),
    Text(
        "Czech",
        ("windows-1250", "iso-8859-2"),
        "Sněžka: nejvyšší hora České republiky",
        "nejvyšší",
        "Sněžka leží v Krkonoších na hranici s Polskem a měří 1603 metrů. Na vrcholu stojí kaple "
        "svatého Vavřince, postavená v sedmnáctém století. Průměrná roční teplota je tu jen o málo "
        "vyšší než nula a často zde fouká silný vítr.",
    ),
    Text(
        "Polish",
        ("windows-1250", "iso-8859-2"),
        "Wisła: najdłuższa rzeka Polski",
        "najdłuższa",
        "Wisła ma długość 1047 kilometrów i jest najdłuższą rzeką w Polsce. Wypływa z Beskidu "
        "Śląskiego, płynie przez Kraków, Warszawę i Toruń, a następnie wpada do Zatoki Gdańskiej. "
        "Żegluga odbywa się głównie w dolnym biegu.",
    ),
    Text(
        "Hungarian",
        ("windows-1250", "iso-8859-2"),
        "A Balaton: Közép-Európa legnagyobb tava",
        "legmélyebb-tó-körül",
        "A Balaton Magyarország nyugati részén fekszik, hossza hetvenhét kilométer. Vize sekély, ezért "
        "nyáron gyorsan fölmelegszik, és sok fürdőző keresi föl. Legmélyebb pontja a "
        "Tihanyi-félszigetnél található, tizenkét méternél is több.",
    ),
    Text(
        "French",
        ("windows-1252", "iso-8859-15"),
        "Le mont Blanc, point culminant des Alpes françaises",
        "été",
        "Situé à la frontière de la France et de l'Italie, le mont Blanc s'élève à 4806 mètres. La "
        "première ascension date de l'été 1786. Chaque année, près de vingt mille personnes tentent "
        "d'atteindre le sommet, qui reste très exposé au vent et au gel.",
    ),
    Text(
        "German",
        ("windows-1252", "iso-8859-15"),
        "Die Zugspitze: höchster Berg Deutschlands",
        "höchster-Gipfel-Größe",
        "Die Zugspitze liegt südlich von Garmisch-Partenkirchen und ist 2962 Meter hoch. Über den "
        "Gipfel verläuft die Grenze zu Österreich. Seit 1930 führt eine Zahnradbahn hinauf, für "
        "Fußgänger gibt es mehrere schöne Wege.",
    ),
    Text(
        "Spanish",
        ("windows-1252", "iso-8859-15"),
        "El Teide, la montaña más alta de España",
        "montaña",
        "El Teide está en la isla de Tenerife y alcanza los 3715 metros sobre el nivel del mar. Es un "
        "volcán activo cuya última erupción ocurrió en 1909. El parque nacional recibe cada año a más "
        "de tres millones de visitantes.",
    ),
    Text(
        "Portuguese",
        ("windows-1252",),
        "A ilha do Pico e a montanha mais alta de Portugal",
        "montanha-é-região",
        "A montanha do Pico eleva-se a 2351 metros e fica na região autónoma dos Açores. A subida é "
        "difícil e não deve ser feita sem guia. Nas encostas há vinhas antigas, que a UNESCO reconheceu "
        "como património da humanidade.",
    ),
    Text(
        "Swedish",
        ("windows-1252",),
        "Vänern: Sveriges största sjö",
        "sjö",
        "Vänern är den största sjön i Sverige och den tredje största i Europa. Den ligger fyrtiofyra "
        "meter över havet och är som djupast etthundrasex meter. Göta älv för vattnet vidare till havet "
        "vid Göteborg.",
    ),
    Text(
        "Greek",
        ("windows-1253", "iso-8859-7"),
        "Όλυμπος: το ψηλότερο βουνό της Ελλάδας",
        "βουνό",
        "Ο Όλυμπος βρίσκεται ανάμεσα στη Μακεδονία και τη Θεσσαλία και έχει ύψος 2918 μέτρα. Σύμφωνα με "
        "τη μυθολογία, εκεί κατοικούσαν οι δώδεκα θεοί. Το 1938 ανακηρύχθηκε σε εθνικό δρυμό, τον πρώτο "
        "της χώρας.",
    ),
    Text(
        "Turkish",
        ("windows-1254",),
        "Ağrı Dağı: Türkiye'nin en yüksek dağı",
        "dağ",
        "Ağrı Dağı, Türkiye'nin doğusunda yer alır ve yüksekliği 5137 metredir. Zirvesi yıl boyunca "
        "karla kaplıdır. Dağa ilk tırmanış 1829 yılında gerçekleşmiştir; bugün tırmanmak için özel izin "
        "almak gerekiyor.",
    ),
    Text(
        "Hebrew",
        ("windows-1255",),
        "ים המלח: המקום הנמוך בעולם",
        "ים",
        "ים המלח נמצא בגבול בין ישראל לירדן, והוא המקום הנמוך ביותר על פני היבשה. המים מלוחים מאוד ולכן "
        "קל לצוף בהם. מפלס המים יורד בכל שנה ביותר ממטר אחד, בעיקר בגלל השימוש במי הירדן.",
    ),
    Text(
        "Arabic",
        ("windows-1256",),
        "نهر النيل: أطول أنهار أفريقيا",
        "نهر",
        "يبلغ طول نهر النيل نحو ستة آلاف وستمائة كيلومتر، وهو أطول أنهار أفريقيا. يمر النهر في عدد كبير "
        "من الدول قبل أن يصب في البحر المتوسط شمال مصر. وقد قامت على ضفافه واحدة من أقدم الحضارات في "
        "التاريخ.",
    ),
    Text(
        "Latvian",
        ("windows-1257",),
        "Gaiziņkalns: augstākais kalns Latvijā",
        "augstākais",
        "Gaiziņkalns atrodas Vidzemes augstienē un sasniedz 312 metrus virs jūras līmeņa. Ziemā šeit "
        "brauc ar slēpēm, bet vasarā apkārtnē var doties garās pastaigās. Senāk kalna galā bija augsts "
        "ķieģeļu tornis, kas tagad ir nojaukts.",
    ),
    Text(
        "Lithuanian",
        ("windows-1257",),
        "Nemunas: ilgiausia Lietuvos upė",
        "upė",
        "Nemunas yra ilgiausia Lietuvos upė, jos ilgis siekia 937 kilometrus. Upė prasideda "
        "Baltarusijoje ir įteka į Kuršių marias. Prie jos krantų įsikūrę Kaunas, Alytus ir daug "
        "mažesnių miestų, kuriuose gyvena šimtai tūkstančių žmonių.",
    ),
    Text(
        "Thai",
        ("windows-874",),
        "ดอยอินทนนท์ ยอดเขาที่สูงที่สุดในประเทศไทย",
        "ยอดเขา",
        "ดอยอินทนนท์ตั้งอยู่ในจังหวัดเชียงใหม่ มีความสูงจาก"
        "ระดับน้ำทะเลสองพันห้าร้อยหกสิบห้าเมตร อากาศหนาวเย็"
        "นตลอดปี และมีป่าไม้อุดมสมบูรณ์ นักท่องเที่ยวจำนวนม"
        "ากเดินทางมาชมพระอาทิตย์ขึ้นในฤดูหนาว",
    ),
)

CASES: Final = [(text, charset) for text in TEXTS for charset in text.charsets]
"""Every text in each of its charsets."""
