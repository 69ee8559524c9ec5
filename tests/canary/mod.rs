//! Canaries: values of one synthetic patient that occur nowhere else, and a scanner that finds them again in logs, files, file names
//! and URLs, however they were written or encoded. Plant [`PATIENT`] at both ends, let the program work and fail, scan everything
//! it left behind.
//!
//! Not seen through: compression and encryption. A scan says how much it looked at, because a scan of nothing finds nothing.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    fs::{self, File},
    io::Read,
    path::Path,
    sync::LazyLock,
};

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// What is planted. SYNTHETIC: no such person, place or number exists (`.invalid` and 555-01xx are reserved for that).
#[derive(Debug)]
pub(crate) struct Patient {
    pub(crate) family: &'static str,
    pub(crate) given: &'static str,
    /// ISO 8601.
    pub(crate) birth_date: &'static str,
    pub(crate) mrn: &'static str,
    pub(crate) phone: &'static str,
    pub(crate) email: &'static str,
    pub(crate) street: &'static str,
    pub(crate) city: &'static str,
    pub(crate) postal_code: &'static str,
    /// A measurement.
    pub(crate) number: &'static str,
    /// A sentence in a note.
    pub(crate) note: &'static str,
    /// An answer in an intake form; not ASCII, so that escapes show.
    pub(crate) answer: &'static str,
}

pub(crate) const PATIENT: Patient = Patient {
    family: "Quillfeather-Synthetic",
    given: "Zebediahsynth",
    birth_date: "1931-07-29",
    mrn: "SYN-7740915-MRN",
    phone: "+1 (212) 555-0147",
    email: "zq.canary@clinic.invalid",
    street: "4471 Plovermarsh Lane",
    city: "Canaryville-upon-Test",
    postal_code: "ZZ9 4QXWV",
    number: "73194.5517",
    note: "SYNTHETIC lament of the marmalade lighthouse",
    answer: "J\u{fc}rgensh\u{f6}her Gr\u{e4}tenwurz",
};

#[derive(Clone, Copy)]
enum Kind {
    /// Besides the whole, each of these alone gives it away.
    Text(&'static [&'static str]),
    Date,
    Phone,
    Number,
}

const CANARIES: [(&str, &str, Kind); 12] = [
    ("family", PATIENT.family, Kind::Text(&["Quillfeather"])),
    ("given", PATIENT.given, Kind::Text(&[])),
    ("birth_date", PATIENT.birth_date, Kind::Date),
    ("mrn", PATIENT.mrn, Kind::Text(&["7740915"])),
    ("phone", PATIENT.phone, Kind::Phone),
    ("email", PATIENT.email, Kind::Text(&["zq.canary"])),
    ("street", PATIENT.street, Kind::Text(&["Plovermarsh"])),
    ("city", PATIENT.city, Kind::Text(&["Canaryville"])),
    ("postal_code", PATIENT.postal_code, Kind::Text(&[])),
    ("number", PATIENT.number, Kind::Number),
    ("note", PATIENT.note, Kind::Text(&["marmalade lighthouse"])),
    ("answer", PATIENT.answer, Kind::Text(&["Gr\u{e4}tenwurz"])),
];

/// Where what was found. Names the canary and not its value: it may end in a log itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sighting {
    /// As in [`Patient`].
    pub(crate) canary: &'static str,
    /// How it was written: "as is", "base64", "percent-encoded" and so on.
    pub(crate) form: &'static str,
    pub(crate) place: String,
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) in {}", self.canary, self.form, self.place)
    }
}

/// What was looked at and found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) things: usize,
    pub(crate) bytes: usize,
    pub(crate) sightings: BTreeSet<Sighting>,
}

impl Scan {
    /// Adds a piece of text or bytes; `place` says in the report where it was.
    pub(crate) fn bytes(&mut self, place: &str, bytes: &[u8]) -> &mut Self {
        self.things += 1;
        self.bytes += bytes.len();
        self.look(place, bytes);
        self
    }

    /// Adds each line of a journal: URLs, process arguments, panic texts.
    pub(crate) fn lines<'a>(&mut self, place: &str, lines: impl IntoIterator<Item = &'a str>) -> &mut Self {
        for (index, line) in lines.into_iter().enumerate() {
            self.bytes(&format!("{place} {}", index + 1), line.as_bytes());
        }
        self
    }

    /// Adds every file below a directory, and its name.
    pub(crate) fn directory(&mut self, root: &Path) -> &mut Self {
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            self.bytes(&format!("a file name in {}", root.display()), name.as_bytes());
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                self.directory(&path);
            } else if kind.is_file() {
                self.file(&path);
            }
        }
        self
    }

    /// In pieces, which overlap by more than the longest form of a canary.
    fn file(&mut self, path: &Path) {
        const PIECE: usize = 1 << 20;
        const OVERLAP: usize = 4096;
        let mut file = File::open(path).unwrap();
        let mut piece = Vec::new();
        loop {
            let kept = piece.len();
            let read = file.by_ref().take((PIECE - kept) as u64).read_to_end(&mut piece).unwrap();
            self.bytes += read;
            self.look(&path.display().to_string(), &piece);
            if kept + read < PIECE {
                break;
            }
            piece.drain(..piece.len() - OVERLAP);
        }
        self.things += 1;
    }

    fn look(&mut self, place: &str, bytes: &[u8]) {
        for (canary, form) in look(bytes) {
            self.sightings.insert(Sighting { canary, form, place: place.to_owned() });
        }
    }

    /// Fails with the places if anything was found, or if less than `bytes` was looked at.
    #[track_caller]
    pub(crate) fn assert_silent(&self, bytes: usize) {
        assert!(self.bytes >= bytes, "only {} bytes in {} things were looked at", self.bytes, self.things);
        let list: Vec<String> = self.sightings.iter().map(Sighting::to_string).collect();
        assert!(list.is_empty(), "patient data in the open:\n{}", list.join("\n"));
    }
}

/// What is searched for in one view of the bytes.
struct Needles {
    automaton: AhoCorasick,
    meaning: Vec<(&'static str, &'static str)>,
}

impl Needles {
    fn new(needles: BTreeMap<Vec<u8>, (&'static str, &'static str)>) -> Self {
        let (needles, meaning): (Vec<_>, _) = needles.into_iter().unzip();
        Self { automaton: AhoCorasick::new(needles).unwrap(), meaning }
    }

    fn find(&self, bytes: &[u8], found: &mut Found, seen_as: Option<&'static str>) {
        for hit in self.automaton.find_overlapping_iter(bytes) {
            let (canary, form) = self.meaning[hit.pattern().as_usize()];
            found.entry(canary).or_insert(seen_as.unwrap_or(form));
        }
    }
}

/// For text in lower case.
static PLAIN: LazyLock<Needles> = LazyLock::new(|| {
    let mut needles = BTreeMap::new();
    for (canary, value, kind) in CANARIES {
        let mut add = |text: &str, form| {
            needles.entry(text.to_lowercase().into_bytes()).or_insert((canary, form));
        };
        add(value, "as is");
        match kind {
            Kind::Text(parts) => parts.iter().for_each(|part| add(part, "in part")),
            Kind::Date => date_forms(value).iter().for_each(|date| add(date, "as another date form")),
            Kind::Phone => {}
            Kind::Number => number_forms(value).iter().for_each(|number| add(number, "as another number form")),
        }
        for spelling in [value.to_owned(), value.to_lowercase(), value.to_uppercase()] {
            add(&hex(spelling.as_bytes()), "hex");
        }
    }
    Needles::new(needles)
});

/// For letters and digits only, in lower case: whatever was put between them. Only what is long enough not to come about by chance.
static BARE: LazyLock<Needles> = LazyLock::new(|| {
    let mut needles = BTreeMap::new();
    for (canary, value, kind) in CANARIES {
        let bare = bare(value.to_lowercase().as_bytes());
        match kind {
            Kind::Text(_) if bare.len() >= 8 => {
                needles.insert(bare, (canary, "with other separators"));
            }
            // With and without the country's number.
            Kind::Phone => {
                needles.insert(bare[1..].to_vec(), (canary, "with other separators"));
            }
            _ => {}
        }
    }
    Needles::new(needles)
});

/// For the bytes as they are, `-` and `_` read as `+` and `/`.
static BASE64: LazyLock<Needles> = LazyLock::new(|| {
    let mut needles = BTreeMap::new();
    for (canary, value, kind) in CANARIES {
        let mut texts = vec![value.to_owned(), value.to_lowercase(), value.to_uppercase()];
        match kind {
            Kind::Text(parts) => texts.extend(parts.iter().map(|part| (*part).to_owned())),
            Kind::Date => texts.extend(date_forms(value)),
            _ => {}
        }
        // Shorter ones could come about by chance in a long ciphertext.
        for text in texts.iter().filter(|text| text.len() >= 9) {
            // Three ways in which it can lie in what is encoded: only the letters that it alone decides.
            for before in 0..3 {
                let bytes = [&vec![0; before], text.as_bytes()].concat();
                let letters = STANDARD_NO_PAD.encode(&bytes);
                let own = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
                needles.insert(letters[own].as_bytes().to_vec(), (canary, "base64"));
            }
        }
    }
    Needles::new(needles)
});

/// Canary -> the first form in which it was seen.
type Found = BTreeMap<&'static str, &'static str>;

fn look(bytes: &[u8]) -> Found {
    let mut found = Found::new();
    let lower = lower(bytes);
    PLAIN.find(&lower, &mut found, None);
    BARE.find(&bare(&lower), &mut found, None);
    let standard: Vec<u8> =
        bytes.iter().map(|b| [*b, b'+', b'/'][(*b == b'-') as usize + 2 * (*b == b'_') as usize]).collect();
    BASE64.find(&standard, &mut found, None);
    // Other writings of the same text, read back and looked at again.
    let mut again = |form, view: Vec<u8>| {
        if view != bytes {
            let lower = self::lower(&view);
            PLAIN.find(&lower, &mut found, Some(form));
            BARE.find(&bare(&lower), &mut found, Some(form));
            BASE64.find(&view, &mut found, Some(form));
        }
    };
    let once = percent_decoded(bytes);
    again("percent-encoded twice", percent_decoded(&once));
    again("percent-encoded", once);
    again("JSON escapes", unescaped(bytes));
    again("UTF-16", bytes.iter().copied().filter(|byte| *byte != 0).collect());
    again("Latin-1", bytes.iter().flat_map(|byte| char::from(*byte).to_string().into_bytes()).collect());
    found
}

fn lower(bytes: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => bytes.to_ascii_lowercase(),
    }
}

/// Letters (of any script: all bytes past ASCII) and digits.
fn bare(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digits(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok().and_then(|text| u32::from_str_radix(text, 16).ok())
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail.get(..2).and_then(digits)) {
            (b'%', Some(byte)) => {
                out.push(byte as u8);
                &tail[2..]
            }
            (b'+', _) => {
                out.push(b' ');
                tail
            }
            _ => {
                out.push(*first);
                tail
            }
        };
    }
    out
}

/// `\u00fc`, `\xfc` and `\u{fc}`; other escapes only lose their backslash.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (code, after) = match tail {
            [b'u', b'{', tail @ ..] => {
                let end = tail.iter().take(7).position(|byte| *byte == b'}');
                (end.and_then(|end| digits(&tail[..end])), end.map_or(tail, |end| &tail[end + 1..]))
            }
            [b'u', tail @ ..] if tail.len() >= 4 => (digits(&tail[..4]), &tail[4..]),
            [b'x', tail @ ..] if tail.len() >= 2 => (digits(&tail[..2]), &tail[2..]),
            _ => (None, tail),
        };
        if let Some(letter) = code.and_then(char::from_u32) {
            out.extend(letter.to_string().into_bytes());
            rest = after;
        }
    }
    out
}

fn date_forms(iso: &str) -> Vec<String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (y, m, d) = (&iso[..4], &iso[5..7], &iso[8..]);
    let month = MONTHS[m.parse::<usize>().unwrap() - 1];
    let (short, m1, d1) = (&month[..3], m.trim_start_matches('0'), d.trim_start_matches('0'));
    let mut forms = vec![format!("{y}{m}{d}"), format!("{m}{d}{y}"), format!("{d}{m}{y}")];
    for s in ["/", ".", "-", " ", "_", ":"] {
        for (m, d) in [(m, d), (m1, d1)] {
            forms.extend([format!("{y}{s}{m}{s}{d}"), format!("{m}{s}{d}{s}{y}"), format!("{d}{s}{m}{s}{y}")]);
        }
    }
    for month in [month, short] {
        forms.extend([format!("{month} {d1}, {y}"), format!("{d1} {month} {y}"), format!("{d1}. {month} {y}")]);
        forms.extend([format!("{d}-{month}-{y}"), format!("{month} {d1} {y}")]);
    }
    forms
}

fn number_forms(number: &str) -> Vec<String> {
    let (whole, fraction) = number.split_once('.').unwrap();
    let (thousands, ones) = whole.split_at(whole.len() - 3);
    let mut forms = vec![format!("{whole},{fraction}")];
    forms.extend([",", "'", " ", "\u{a0}"].map(|s| format!("{thousands}{s}{ones}.{fraction}")));
    forms.extend([".", " ", "\u{a0}"].map(|s| format!("{thousands}{s}{ones},{fraction}")));
    // In scientific notation.
    forms.push(format!("{}.{}{fraction}e", &whole[..1], &whole[1..]));
    forms
}

mod tests {
    use super::{CANARIES, PATIENT, STANDARD_NO_PAD, Scan, hex, look};
    use base64::{Engine as _, engine::general_purpose};
    use std::fs;

    fn seen(canary: &str, text: impl AsRef<[u8]>) -> bool {
        look(text.as_ref()).contains_key(canary)
    }

    fn percent(text: &str) -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    #[test]
    fn every_canary_is_found_in_every_form() {
        for (canary, value, _) in CANARIES {
            for before in ["", "x", "xy", "xyz"] {
                let whole = format!("{before}{value} and more");
                let escaped: String = whole.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                let wide: Vec<u8> = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
                let wide_other: Vec<u8> = whole.encode_utf16().flat_map(u16::to_be_bytes).collect();
                let forms: [(&str, Vec<u8>); 13] = [
                    ("as is", whole.clone().into()),
                    ("upper case", whole.to_uppercase().into()),
                    ("lower case", whole.to_lowercase().into()),
                    ("base64", general_purpose::STANDARD.encode(&whole).into()),
                    ("base64, URL-safe", general_purpose::URL_SAFE_NO_PAD.encode(format!("\u{3ff}{whole}")).into()),
                    ("base64 in a URL", percent(&general_purpose::STANDARD.encode(&whole)).into()),
                    ("hex", hex(whole.as_bytes()).to_uppercase().into()),
                    ("percent-encoded", percent(&whole).into()),
                    ("percent-encoded twice", percent(&percent(&whole)).into()),
                    ("as a form", percent(&whole).replace("%20", "+").into()),
                    ("JSON escapes", escaped.into()),
                    ("UTF-16", wide),
                    ("UTF-16, big-endian", wide_other),
                ];
                for (form, text) in forms {
                    let line = [b"{\"level\":\"INFO\",\"x\":\"".as_slice(), &text, b"\"}"].concat();
                    // The URL-safe form must be found where it stands in the text, not by its place.
                    assert!(seen(canary, &line), "{canary} as {form} behind {before:?}");
                }
            }
        }
    }

    #[test]
    fn dates_numbers_names_and_phones_are_found_as_people_and_programs_write_them() {
        for date in [
            "07/29/1931",
            "7/29/1931",
            "29.07.1931",
            "29/07/1931",
            "1931/07/29",
            "19310729",
            "July 29, 1931",
            "29 Jul 1931",
            "07-29-1931",
            "29-JUL-1931",
            "1931-07-29T00:00:00Z",
            "1931 07 29",
            "birthdate=ge1931-07-29",
            "07%2F29%2F1931",
        ] {
            assert!(seen("birth_date", date), "{date}");
        }
        for number in ["73,194.5517 mg", "73194,5517", "value=73194.55170", "7.31945517e4", "73 194,5517"] {
            assert!(seen("number", number), "{number}");
        }
        for phone in ["2125550147", "+12125550147", "212-555-0147", "(212) 555 0147", "tel:+1.212.555.0147"] {
            assert!(seen("phone", phone), "{phone}");
        }
        for name in ["QUILLFEATHER", "quillfeather_synthetic.pdf", "Quillfeather", "family=Quillfeather%2DSynthetic"] {
            assert!(seen("family", name), "{name}");
        }
        assert!(seen("street", "4471_plovermarsh_lane"));
        assert!(seen("postal_code", "zz94qxwv"));
        assert!(seen("answer", "J\\xfcrgensh\\xf6her Gr\\xe4tenwurz"));
        assert!(seen("answer", [b"Gr\xe4tenwurz".as_slice()].concat()), "Latin-1");
        assert!(seen("answer", "Gr\\u{e4}tenwurz"), "Rust's own escapes");
    }

    #[test]
    fn what_a_relay_writes_is_not_taken_for_a_canary() {
        let mut harmless = String::from(
            "2026-05-03T10:00:00.000Z INFO engine: committed firm=north key=north/link/Patient/7f3 epoch=3 attempts=0 \
             latency_ms=731 FileMaker 301 HTTP 503 SYNTHETIC Testpatient clinic.invalid 1931 Lane canary note lament\n",
        );
        // A stand-in for ciphertext and hashes: 600 kB of it.
        let mut state = 88_172_645_463_325_252_u64;
        let mut noise = Vec::new();
        for _ in 0..75_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend(state.to_be_bytes());
        }
        harmless += &STANDARD_NO_PAD.encode(&noise);
        harmless += &hex(&noise);
        let mut scan = Scan::default();
        scan.bytes("text", harmless.as_bytes()).bytes("noise", &noise);
        scan.assert_silent(2_000_000);
    }

    #[test]
    fn files_their_names_and_journals_are_looked_at_to_the_last_byte() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        // Across the border of two pieces.
        let mut large = vec![b'.'; (1 << 20) - 5];
        large.extend(PATIENT.given.as_bytes());
        large.extend(vec![b'.'; 3_000_000]);
        fs::write(below.join("large"), &large).unwrap();
        fs::write(root.path().join("quillfeather.txt"), "nothing in it").unwrap();
        let mut scan = Scan::default();
        scan.directory(root.path()).lines("URL", ["/Patient?family=Nobody", "/Patient?phone=2125550147"]);
        let found: Vec<(&str, bool)> =
            scan.sightings.iter().map(|seen| (seen.canary, seen.place.contains("large"))).collect();
        assert_eq!(found, [("family", false), ("given", true), ("phone", false)]);
        assert!(scan.sightings.iter().any(|seen| seen.place == "URL 2"));
        assert!(scan.bytes > 4_000_000 && scan.things == 8, "{} {}", scan.bytes, scan.things);
        let report = std::panic::catch_unwind(|| scan.assert_silent(0)).unwrap_err();
        let report = report.downcast_ref::<String>().unwrap();
        assert!(report.contains("given (as is)"), "{report}");
        assert!(!report.contains(PATIENT.given), "{report}");
        assert!(std::panic::catch_unwind(|| Scan::default().assert_silent(1)).is_err(), "nothing was looked at");
    }
}
