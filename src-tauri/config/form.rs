//! Texts with a form of their own: what a value has to look like, and what to do if it does not. None of these sentences repeats the
//! value: a person may have put a secret there.

use std::ops::RangeInclusive;

use engine::{key, mapping::Path};
use jiff::{civil, tz::TimeZone};
use url::{Host, Url};

use super::time::Time;
use crate::secrets::SecretName;

/// What was expected, and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) expected: String,
    pub(super) mend: String,
}

pub(super) fn wrong(expected: impl Into<String>, mend: impl Into<String>) -> Wrong {
    Wrong { expected: expected.into(), mend: mend.into() }
}

/// Checks a text by the name of its form in the schema.
pub(super) fn check(form: &str, text: &str) -> Result<(), Wrong> {
    match form {
        "text" if text.trim().is_empty() => Err(wrong("a text that is not empty", "Write it, or leave the line out")),
        "slug" => key::FirmId::new(text).map(drop).map_err(|error| {
            wrong(error.expected, "Write a short name such as \"north\"; capitals and spaces are not allowed")
        }),
        "resource-type" => key::ResourceType::new(text)
            .map(drop)
            .map_err(|error| wrong(error.expected, "Write it as FHIR does, such as \"Patient\"")),
        "time-zone" => match TimeZone::get(text) {
            Ok(_) if text.contains('/') || text.eq_ignore_ascii_case("utc") => Ok(()),
            _ => Err(wrong("a time zone by its IANA name", "Write area and city, such as \"America/New_York\"")),
        },
        "clock" => clock(text).map(drop),
        "url" => url(text).map(drop),
        "secret-name" => secret_name(text),
        "queue-name" => {
            let name = text.strip_suffix(".fifo").unwrap_or(text);
            // The dead-letter queue's name is longer by `-dead`, and 80 is SQS's limit.
            let right = (1..=70).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if right {
                Ok(())
            } else {
                Err(wrong(
                    "the name of a queue: 1 to 70 letters, digits, - and _, with or without .fifo at its end",
                    "Write its name alone, such as \"chart-relay\", and not its address",
                ))
            }
        }
        "role" if !(text.starts_with("arn:") && text.contains(":iam::") && text.contains(":role/")) => Err(wrong(
            "the ARN of a role",
            "Copy it from IAM's page of the role; it looks like \"arn:aws:iam::123456789012:role/chart-relay-sync\"",
        )),
        "fingerprint" => fingerprint(text),
        "account" if text.is_empty() || !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b':') => Err(wrong(
            "printable ASCII without a colon",
            "FileMaker accepts no other account here; rename the account if need be",
        )),
        "path" => text.parse::<Path>().map(drop).map_err(|error| {
            wrong(format!("{} at character {} of the path", error.expected, error.position), capitalised(&error.mend))
        }),
        _ => Ok(()),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A time within its bounds.
pub(super) fn time(text: &str, bounds: &RangeInclusive<Time>) -> Result<(), Wrong> {
    match text.parse::<Time>() {
        Ok(time) if bounds.contains(&time) => Ok(()),
        Ok(_) => {
            Err(wrong(format!("a time from {} to {}", bounds.start(), bounds.end()), "Choose one within these bounds"))
        }
        Err(_) => Err(wrong(
            "a whole number and its unit (ms, s, min, h or d)",
            format!("Write it like \"{}\", in quotation marks", bounds.start()),
        )),
    }
}

/// A time of day by the clock on the wall.
pub(super) fn clock(text: &str) -> Result<civil::Time, Wrong> {
    civil::Time::strptime("%H:%M", text)
        .map_err(|_| wrong("hours and minutes from 00:00 to 23:59", "Write it like \"08:00\", in quotation marks"))
}

/// A server's address. Plain http would send sign-ins and patient data readable over the network.
pub(super) fn url(text: &str) -> Result<Url, Wrong> {
    let url = Url::parse(text)
        .map_err(|_| wrong("an address", "Write it in full, such as \"https://server.example/path\""))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(wrong("https: http is allowed only for a server on this machine", "Write https://")),
        _ => return Err(wrong("an https address", "Begin it with https://")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "an address without user or password",
            "Take them out of the file; sign-ins have their own settings and the keychain",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("an address without ? and #", "End it with the path"));
    }
    Ok(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The name of a keychain entry, or what a person takes for one.
fn secret_name(text: &str) -> Result<(), Wrong> {
    if looks_secret(text) {
        return Err(wrong(
            "the name of a secret in the keychain, and this looks like the secret itself",
            "Take it out of the file, run `chart-relay secret set NAME`, enter it there, and write only NAME here; \
             since it has stood in a file, have it changed",
        ));
    }
    SecretName::parse(text).map(drop).map_err(|_| {
        wrong(
            "the name of a secret: 1 to 64 of a-z, 0-9, . _ and -, not \"clinic-key\"",
            "Choose a name such as \"north-filemaker\" and keep the secret under it: `chart-relay secret set north-filemaker`",
        )
    })
}

/// Names are words; secrets are long and mixed. Hexadecimal digits in any grouping, or a run of 16 letters and digits with both
/// among them, is no name that a person chose.
fn looks_secret(text: &str) -> bool {
    let mixed = |run: &str| {
        run.len() >= 16 && run.contains(|c: char| c.is_ascii_digit()) && run.contains(|c: char| c.is_ascii_alphabetic())
    };
    let hexadecimal = text.len() >= 24 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let symbols = text.len() >= 8 && text.chars().any(|c| c.is_ascii_uppercase() || "!@#$%^&*+=/?~".contains(c));
    hexadecimal || symbols || text.split(|c: char| !c.is_ascii_alphanumeric()).any(mixed)
}

fn fingerprint(text: &str) -> Result<(), Wrong> {
    let digits = text.chars().filter(|c| !matches!(c, ':' | ' '));
    let (count, hexadecimal) =
        digits.fold((0, true), |(count, so_far), c| (count + 1, so_far && c.is_ascii_hexdigit()));
    if count == 64 && hexadecimal {
        return Ok(());
    }
    Err(wrong(
        "a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons",
        "Take it from `openssl x509 -noout -fingerprint -sha256` or from the certificate's page in a browser",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_from_its_name() {
        for name in ["north-filemaker", "medplum", "north.fhir_secret-2024", "clinic-12-filemaker-password"] {
            assert_eq!(check("secret-name", name), Ok(()), "{name}");
        }
        for secret in [
            "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
            "SYNTHETIC-Passw0rd!",
            "sk0live0abcdefgh1234",
        ] {
            let wrong = check("secret-name", secret).unwrap_err();
            assert!(wrong.mend.contains("chart-relay secret set"), "{wrong:?}");
            assert!(wrong.expected.contains("the secret itself"), "{wrong:?}");
            assert!(!format!("{wrong:?}").contains(secret));
        }
        assert!(check("secret-name", "two words").unwrap_err().expected.contains("1 to 64"));
        assert!(check("secret-name", "clinic-key").is_err());
    }

    #[test]
    fn an_address_is_safe_or_refused() {
        for good in
            ["https://chart.example/fhir", "http://127.0.0.1:8103/fhir/R4", "http://localhost", "http://[::1]:8080/"]
        {
            assert_eq!(check("url", good), Ok(()), "{good}");
        }
        for bad in [
            "chart.example",
            "http://chart.example",
            "http://localhost.example",
            "ftp://chart.example",
            "https://user:pass@chart.example",
            "https://chart.example/fhir?x=1",
        ] {
            assert!(check("url", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn zones_have_a_place() {
        assert_eq!(check("time-zone", "America/New_York"), Ok(()));
        for bad in ["EST", "America/Nowhere", "", "+05:00"] {
            assert!(check("time-zone", bad).is_err(), "{bad}");
        }
    }
}
