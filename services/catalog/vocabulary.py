"""The words of the generated catalogue: a tree of categories, what their products are called, and of what they are made.

Of a leaf: its nouns in four languages (the first is the name, the others are what people also say), the attributes its
products have, and its usual price in euros. Written for this project.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.catalog.domain import Language

_EN, _DE, _FR, _ES = Language.EN, Language.DE, Language.FR, Language.ES


@dataclass(frozen=True, slots=True)
class Leaf:
    """A category that holds products. `nouns[language][0]` is its name; `price` is the median, in euros."""

    path: str
    nouns: dict[Language, tuple[str, ...]]
    attributes: tuple[str, ...]
    price: int


ROOTS: dict[str, tuple[str, str, str, str]] = {
    "fashion": ("Fashion", "Mode", "Mode", "Moda"),
    "fashion/shoes": ("Shoes", "Schuhe", "Chaussures", "Zapatos"),
    "fashion/clothing": ("Clothing", "Kleidung", "Vêtements", "Ropa"),
    "fashion/accessories": ("Accessories", "Accessoires", "Accessoires", "Accesorios"),
    "home": ("Home", "Wohnen", "Maison", "Hogar"),
    "home/kitchen": ("Kitchen", "Küche", "Cuisine", "Cocina"),
    "home/furniture": ("Furniture", "Möbel", "Meubles", "Muebles"),
    "home/lighting": ("Lighting", "Beleuchtung", "Éclairage", "Iluminación"),
    "tools": ("Tools", "Werkzeug", "Outils", "Herramientas"),
    "tools/power": ("Power tools", "Elektrowerkzeug", "Outils électriques", "Herramientas eléctricas"),
    "tools/hand": ("Hand tools", "Handwerkzeug", "Outils à main", "Herramientas manuales"),
    "tools/parts": ("Spare parts", "Ersatzteile", "Pièces détachées", "Recambios"),
    "electronics": ("Electronics", "Elektronik", "Électronique", "Electrónica"),
    "electronics/audio": ("Audio", "Audio", "Audio", "Audio"),
    "electronics/computers": ("Computers", "Computer", "Informatique", "Informática"),
    "electronics/photo": ("Photo", "Foto", "Photo", "Foto"),
    "outdoor": ("Outdoor", "Outdoor", "Plein air", "Aire libre"),
    "outdoor/camping": ("Camping", "Camping", "Camping", "Camping"),
    "outdoor/cycling": ("Cycling", "Radsport", "Cyclisme", "Ciclismo"),
}
"""The inner nodes, named in English, German, French and Spanish."""


def _leaf(path: str, en: str, de: str, fr: str, es: str, attributes: str, price: int) -> Leaf:
    words = {_EN: en, _DE: de, _FR: fr, _ES: es}
    nouns = {language: tuple(text.split("|")) for language, text in words.items()}
    return Leaf(path, nouns, tuple(attributes.split()), price)


LEAVES: tuple[Leaf, ...] = (
    _leaf("fashion/shoes/running", "running shoes|trainers|sneakers", "Laufschuhe|Turnschuhe", "chaussures de course|baskets", "zapatillas de correr|deportivas", "colour size material", 95),
    _leaf("fashion/shoes/hiking", "hiking boots|walking boots", "Wanderschuhe|Wanderstiefel", "chaussures de randonnée", "botas de montaña", "colour size material", 140),
    _leaf("fashion/shoes/sandals", "sandals|flip-flops", "Sandalen", "sandales", "sandalias", "colour size material", 45),
    _leaf("fashion/clothing/jackets", "rain jacket|raincoat|waterproof jacket", "Regenjacke", "veste de pluie|imperméable", "chaqueta impermeable|chubasquero", "colour size material", 120),
    _leaf("fashion/clothing/shirts", "t-shirt|tee", "T-Shirt", "t-shirt", "camiseta", "colour size material", 25),
    _leaf("fashion/clothing/trousers", "jeans|trousers|pants", "Jeans|Hose", "jean|pantalon", "vaqueros|pantalón", "colour size material", 70),
    _leaf("fashion/clothing/jumpers", "jumper|sweater|pullover", "Pullover|Strickpulli", "pull|chandail", "jersey|suéter", "colour size material", 60),
    _leaf("fashion/accessories/backpacks", "backpack|rucksack", "Rucksack", "sac à dos", "mochila", "colour volume material", 80),
    _leaf("fashion/accessories/watches", "wristwatch|watch", "Armbanduhr|Uhr", "montre", "reloj de pulsera|reloj", "colour diameter material", 180),
    _leaf("fashion/accessories/sunglasses", "sunglasses|shades", "Sonnenbrille", "lunettes de soleil", "gafas de sol", "colour material", 65),
    _leaf("home/kitchen/knives", "chef's knife|kitchen knife", "Kochmesser|Küchenmesser", "couteau de chef", "cuchillo de cocina", "length material", 55),
    _leaf("home/kitchen/pans", "frying pan|skillet", "Bratpfanne|Pfanne", "poêle", "sartén", "diameter material colour", 40),
    _leaf("home/kitchen/kettles", "kettle|water boiler", "Wasserkocher", "bouilloire", "hervidor", "volume power colour", 35),
    _leaf("home/kitchen/coffee", "coffee machine|espresso maker", "Kaffeemaschine|Espressomaschine", "machine à café|cafetière", "cafetera", "power colour volume", 250),
    _leaf("home/furniture/sofas", "sofa|couch|settee", "Sofa|Couch", "canapé", "sofá", "colour width material", 780),
    _leaf("home/furniture/desks", "desk|writing table", "Schreibtisch", "bureau", "escritorio", "colour width material", 260),
    _leaf("home/furniture/chairs", "office chair|desk chair", "Bürostuhl", "chaise de bureau", "silla de oficina", "colour material", 190),
    _leaf("home/lighting/lamps", "desk lamp|table lamp", "Schreibtischlampe|Tischlampe", "lampe de bureau", "lámpara de mesa", "colour power material", 48),
    _leaf("home/lighting/bulbs", "light bulb|lamp bulb", "Glühbirne|Leuchtmittel", "ampoule", "bombilla", "power colour", 8),
    _leaf("tools/power/drills", "cordless drill|power drill", "Akkubohrer|Bohrmaschine", "perceuse sans fil", "taladro inalámbrico", "voltage power weight", 130),
    _leaf("tools/power/saws", "circular saw|buzz saw", "Kreissäge", "scie circulaire", "sierra circular", "power diameter weight", 145),
    _leaf("tools/power/sanders", "orbital sander|sander", "Schleifmaschine|Exzenterschleifer", "ponceuse", "lijadora", "power weight", 85),
    _leaf("tools/hand/hammers", "claw hammer|hammer", "Hammer", "marteau", "martillo", "weight material length", 24),
    _leaf("tools/hand/spanners", "spanner|wrench", "Schraubenschlüssel", "clé plate", "llave inglesa", "width material length", 18),
    _leaf("tools/hand/screwdrivers", "screwdriver set|screwdriver", "Schraubendreher", "tournevis", "destornillador", "length material", 22),
    _leaf("tools/parts/filters", "air filter|filter cartridge", "Luftfilter", "filtre à air", "filtro de aire", "diameter length", 15),
    _leaf("tools/parts/belts", "drive belt|v-belt", "Keilriemen|Antriebsriemen", "courroie", "correa de transmisión", "length width", 19),
    _leaf("tools/parts/bearings", "ball bearing|bearing", "Kugellager", "roulement à billes", "rodamiento de bolas", "diameter width material", 11),
    _leaf("electronics/audio/headphones", "headphones|headset", "Kopfhörer", "casque audio|écouteurs", "auriculares", "colour weight", 110),
    _leaf("electronics/audio/speakers", "bluetooth speaker|loudspeaker", "Lautsprecher", "enceinte|haut-parleur", "altavoz", "colour power weight", 90),
    _leaf("electronics/computers/laptops", "laptop|notebook", "Laptop|Notebook", "ordinateur portable", "portátil", "memory weight colour", 950),
    _leaf("electronics/computers/keyboards", "mechanical keyboard|keyboard", "Tastatur", "clavier", "teclado", "colour weight", 75),
    _leaf("electronics/computers/drives", "solid state drive|ssd", "Festplatte|SSD", "disque dur", "disco duro", "memory weight", 85),
    _leaf("electronics/photo/cameras", "digital camera|camera", "Kamera", "appareil photo", "cámara", "weight colour", 620),
    _leaf("electronics/photo/tripods", "tripod|camera stand", "Stativ", "trépied", "trípode", "length weight material", 70),
    _leaf("outdoor/camping/tents", "tent|camping tent", "Zelt", "tente", "tienda de campaña", "colour weight", 210),
    _leaf("outdoor/camping/sleeping-bags", "sleeping bag", "Schlafsack", "sac de couchage", "saco de dormir", "colour weight length", 95),
    _leaf("outdoor/camping/stoves", "camping stove|gas burner", "Campingkocher", "réchaud", "hornillo", "power weight", 50),
    _leaf("outdoor/cycling/bikes", "mountain bike|bicycle|bike", "Mountainbike|Fahrrad", "vtt|vélo", "bicicleta de montaña|bicicleta", "colour size weight", 880),
    _leaf("outdoor/cycling/helmets", "bike helmet|cycling helmet", "Fahrradhelm", "casque de vélo", "casco de bicicleta", "colour size weight", 60),
)  # fmt: skip

COLOURS: dict[Language, tuple[str, ...]] = {
    _EN: ("black", "white", "red", "blue", "green", "grey", "yellow", "brown", "orange", "navy"),
    _DE: ("schwarz", "weiß", "rot", "blau", "grün", "grau", "gelb", "braun", "orange", "marineblau"),
    _FR: ("noir", "blanc", "rouge", "bleu", "vert", "gris", "jaune", "brun", "orange", "bleu marine"),
    _ES: ("negro", "blanco", "rojo", "azul", "verde", "gris", "amarillo", "marrón", "naranja", "azul marino"),
}
MATERIALS: dict[Language, tuple[str, ...]] = {
    _EN: ("leather", "cotton", "steel", "wood", "aluminium", "wool", "nylon", "carbon"),
    _DE: ("Leder", "Baumwolle", "Stahl", "Holz", "Aluminium", "Wolle", "Nylon", "Carbon"),
    _FR: ("cuir", "coton", "acier", "bois", "aluminium", "laine", "nylon", "carbone"),
    _ES: ("cuero", "algodón", "acero", "madera", "aluminio", "lana", "nailon", "carbono"),
}
QUALITIES: dict[Language, tuple[str, ...]] = {
    _EN: ("light", "waterproof", "compact", "classic", "professional", "folding", "quiet", "robust"),
    _DE: ("leicht", "wasserdicht", "kompakt", "klassisch", "professionell", "klappbar", "leise", "robust"),
    _FR: ("léger", "étanche", "compact", "classique", "professionnel", "pliable", "silencieux", "robuste"),
    _ES: ("ligero", "impermeable", "compacto", "clásico", "profesional", "plegable", "silencioso", "robusto"),
}
AUDIENCES: dict[Language, tuple[str, ...]] = {
    _EN: ("for women", "for men", "for children", "for beginners", "for travel"),
    _DE: ("für Damen", "für Herren", "für Kinder", "für Einsteiger", "für die Reise"),
    _FR: ("pour femme", "pour homme", "pour enfant", "pour débutant", "pour le voyage"),
    _ES: ("para mujer", "para hombre", "para niños", "para principiantes", "para viaje"),
}
MEASURES: dict[str, tuple[str, tuple[int, ...]]] = {
    "size": ("", (36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46)),
    "volume": ("l", (1, 2, 5, 10, 15, 20, 25, 30, 45, 60)),
    "diameter": ("mm", (8, 12, 20, 28, 36, 40, 42, 160, 190, 240, 280)),
    "length": ("cm", (10, 15, 18, 20, 25, 30, 60, 120, 150, 180, 200)),
    "width": ("mm", (8, 10, 13, 17, 19, 22, 800, 1200, 1400, 1600, 1800)),
    "power": ("W", (5, 9, 20, 40, 60, 500, 800, 1200, 1500, 2200)),
    "voltage": ("V", (12, 14, 18, 20, 24, 36)),
    "weight": ("g", (90, 150, 250, 300, 500, 750, 1200, 1800, 2500, 9000)),
    "memory": ("GB", (128, 256, 512, 1024, 2048)),
}
"""Attribute -> unit and what occurs."""

GLUE: dict[Language, tuple[str, ...]] = {
    _EN: ("the", "and", "with", "of", "for", "a", "in", "is", "this", "to", "your", "from", "made", "it"),
    _DE: ("der", "und", "mit", "von", "für", "ein", "in", "ist", "die", "zu", "das", "aus", "auch", "sich"),
    _FR: ("le", "et", "avec", "de", "pour", "un", "en", "est", "la", "à", "les", "des", "une", "ce"),
    _ES: ("el", "y", "con", "de", "para", "un", "en", "es", "la", "a", "los", "del", "una", "que"),
}
"""The words that a text is full of."""

_ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "ou", "ie")
_SYLLABLES = tuple(onset + vowel for onset in _ONSETS for vowel in _VOWELS)


def invented(number: int, ending: str = "") -> str:
    """A word that no language has, a different one for each number: two syllables for the first 40,000, then more."""
    syllables = []
    rest = number + len(_SYLLABLES)
    while rest:
        rest, index = divmod(rest, len(_SYLLABLES))
        # Neighbours in rank should not look alike: 137 shares no factor with the number of syllables.
        syllables.append(_SYLLABLES[(index * 137 + 41) % len(_SYLLABLES)])
    return "".join(syllables) + ending
