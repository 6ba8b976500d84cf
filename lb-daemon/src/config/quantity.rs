//! How durations, sizes and other quantities are written. Pure: text in, a value or a reason out.

use std::time::Duration;

/// Why a text is not the quantity it should be: what to say at its place, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) label: String,
    pub(super) hint: String,
}

impl Wrong {
    /// Both, where no place of a file is to be shown.
    pub(super) fn told(self) -> String {
        format!("{}; {}", self.label, self.hint)
    }
}

/// A [`Wrong`] from its two texts.
pub(super) fn wrong(label: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { label: label.into(), hint: hint.into() }
}

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `"500ms"`, `"2s"`, `"1m"`, `"1h"`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let hint = "write a whole number and a unit, without a space: \"500ms\", \"2s\", \"1m\" or \"1h\"";
    scaled(text, &DURATIONS, hint).map(Duration::from_millis)
}

/// `"64KiB"`, `"128MiB"`, `"1GiB"`, in bytes.
pub(super) fn bytes(text: &str) -> Result<u64, Wrong> {
    scaled(text, &SIZES, "write a whole number and a unit, without a space: \"512KiB\", \"128MiB\" or \"1GiB\"")
}

/// A whole number and one of `units`, multiplied.
fn scaled(text: &str, units: &[(&str, u64)], hint: &str) -> Result<u64, Wrong> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(wrong("no whole number at the start", hint));
    }
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.ok_or_else(|| match unit {
        "" => wrong("no unit", hint),
        _ => wrong(format!("`{unit}` is no unit"), hint),
    })?;
    let product = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    product.ok_or_else(|| wrong("too large a number", hint))
}

/// A duration in the largest unit that gives a whole number.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = DURATIONS.iter().rev().find(|(_, scale)| millis >= *scale && millis.is_multiple_of(*scale));
    let (unit, scale) = whole.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", millis / scale)
}

/// `"0a 0b"`: bytes in hexadecimal digits, two each, with spaces wherever they help.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, Wrong> {
    let hint = "write two hexadecimal digits for each byte, such as \"hex:0a0b\"";
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.chars().filter(|c| *c != ' ').map(digit).collect();
    let digits = digits.ok_or_else(|| wrong("not hexadecimal digits", hint))?;
    let bytes = digits.chunks(2).map(|pair| if let [high, low] = pair { Some(high << 4 | low) } else { None });
    bytes.collect::<Option<_>>().ok_or_else(|| wrong("an odd count of digits", hint))
}

/// `"0x5eed"`: up to 16 hexadecimal digits.
pub(super) fn hex_seed(text: &str) -> Result<u64, Wrong> {
    let hint = "write \"0x\" and up to 16 hexadecimal digits, or a whole number without quotes";
    let digits = text.strip_prefix("0x").ok_or_else(|| wrong("does not begin with 0x", hint))?;
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong("not hexadecimal digits after 0x", hint));
    }
    u64::from_str_radix(digits, 16).map_err(|_| wrong("more than 64 bits", hint))
}

/// `"0a1b"` or `"0x0a1b"`: bytes in hexadecimal digits, two each, as one number and their count. At most 15 of them.
pub(super) fn hex_bytes(text: &str) -> Result<(u128, u8), Wrong> {
    let hint =
        "write 2 to 30 hexadecimal digits, two for each byte, such as \"0a1b\"; or a whole number without quotes";
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong("not hexadecimal digits", hint));
    }
    if !digits.len().is_multiple_of(2) {
        return Err(wrong("an odd number of digits", format!("write all digits of each byte: \"0{digits}\"")));
    }
    match (u128::from_str_radix(digits, 16), u8::try_from(digits.len() / 2)) {
        (Ok(number), Ok(bytes @ 1..=15)) => Ok((number, bytes)),
        _ => Err(wrong("more than 15 bytes", hint)),
    }
}

/// `"50%"`.
pub(super) fn percent(text: &str) -> Result<u8, Wrong> {
    let hint = "write a whole percentage from \"0%\" to \"100%\"";
    let number = text.strip_suffix('%').ok_or_else(|| wrong("does not end with %", hint))?;
    let whole = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    match number.parse() {
        Ok(percent @ 0..=100) if whole => Ok(percent),
        _ => Err(wrong("not a whole number from 0 to 100 before the %", hint)),
    }
}

/// `"5%"`, `"0.5%"`: a share, 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, Wrong> {
    let hint = "write a percentage from \"0%\" to \"100%\", such as \"5%\" or \"0.5%\"";
    let number = text.strip_suffix('%').ok_or_else(|| wrong("does not end with %", hint))?;
    // Neither signs nor exponents nor infinity.
    let plain = number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match number.parse::<f64>() {
        Ok(percent) if plain && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(wrong("not a number from 0 to 100 before the %", hint)),
    }
}

/// `"02:00:00:00:00:01"`.
pub(super) fn mac(text: &str) -> Result<[u8; 6], Wrong> {
    let hint = "write six pairs of hexadecimal digits: \"02:00:00:00:00:01\"";
    let byte = |pair: &str| match pair.len() {
        2 if pair.bytes().all(|digit| digit.is_ascii_hexdigit()) => u8::from_str_radix(pair, 16).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    mac.ok_or_else(|| wrong("not a MAC address", hint))
}

/// `"200-299"` or `"204"`: HTTP status codes, both ends included.
pub(super) fn statuses(text: &str) -> Result<(u16, u16), Wrong> {
    let hint = "write a status code from 100 to 599, \"204\", or a range of them, \"200-299\"";
    let code = |text: &str| {
        let code = text.parse::<u16>().ok().filter(|code| text.len() == 3 && (100..=599).contains(code));
        code.ok_or_else(|| wrong(format!("`{text}` is not an HTTP status code"), hint))
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (code(low)?, code(high)?) {
        (low, high) if low <= high => Ok((low, high)),
        _ => Err(wrong("the range ends before it begins", hint)),
    }
}

/// The power of two nearest to `number`, which is at least 1 and at most 2^62.
pub(super) fn nearest_power(number: u64) -> u64 {
    let above = number.next_power_of_two();
    let below = above / 2;
    if above - number <= number - below { above } else { below }
}

/// The prime nearest to `number` within `range`, which must hold one.
pub(super) fn nearest_prime(number: u64, range: &std::ops::RangeInclusive<u64>) -> u64 {
    let start = number.clamp(*range.start(), *range.end());
    let around = (0..=range.end() - range.start()).flat_map(|step| [start.checked_sub(step), start.checked_add(step)]);
    around.flatten().find(|candidate| range.contains(candidate) && is_prime(*candidate)).unwrap_or(start)
}

/// Whether `number` is prime.
pub(super) fn is_prime(number: u64) -> bool {
    number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, millis) in [("500ms", 500), ("2s", 2_000), ("1m", 60_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in
            ["", "2", "s", "2 s", "-2s", "1.5s", "2min", "99999999999999999999s", "18446744073709551615h", "２s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shows_durations_as_they_are_written() {
        for text in ["0ms", "1ms", "1500ms", "2s", "90s", "1m", "4h"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn reads_sizes() {
        assert_eq!(bytes("128MiB"), Ok(128 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for text in ["128", "128MB", "MiB", "17179869184GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_seeds_shares_and_addresses() {
        assert_eq!(hex_seed("0x5eed"), Ok(0x5eed));
        assert_eq!(hex_seed("0xffffffffffffffff"), Ok(u64::MAX));
        assert!(["5eed", "0x", "0x+5", "0x1_0", "0x10000000000000000"].into_iter().all(|text| hex_seed(text).is_err()));
        assert_eq!(hex_bytes("0x00Ff"), Ok((255, 2)));
        assert_eq!(hex_bytes(&"ff".repeat(15)), Ok(((1 << 120) - 1, 15)));
        let sixteen = "00".repeat(16);
        assert!(["", "0x", "f", "+f", "g0", "0x0x00", &sixteen].into_iter().all(|text| hex_bytes(text).is_err()));
        assert_eq!(percent("0%"), Ok(0));
        assert_eq!(percent("100%"), Ok(100));
        assert_eq!([share("0%"), share("5%"), share("0.5%"), share("100%")], [0.0, 0.05, 0.005, 1.0].map(Ok));
        assert!(
            ["5", "", "%", "-1%", "+1%", "1e1%", ".5%", "inf%", "100.1%", "1.2.3%"]
                .iter()
                .all(|text| share(text).is_err())
        );
        assert!(["101%", "50", "%", "+5%", "1.5%", "256%"].into_iter().all(|text| percent(text).is_err()));
        assert_eq!(mac("02:00:00:00:Ab:01"), Ok([2, 0, 0, 0, 0xab, 1]));
        assert!(
            ["02:00:00:00:01", "02:00:00:00:00:001", "2:0:0:0:0:1", "02-00-00-00-00-01", "+2:00:00:00:00:01"]
                .into_iter()
                .all(|text| mac(text).is_err())
        );
        assert_eq!(statuses("200-299"), Ok((200, 299)));
        assert_eq!(statuses("204"), Ok((204, 204)));
        assert!(["", "2xx", "299-200", "99", "600", "200-", "+20"].into_iter().all(|text| statuses(text).is_err()));
    }

    #[test]
    fn finds_primes() {
        let primes: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert_eq!(nearest_prime(65_536, &(251..=1_048_573)), 65_537);
        assert_eq!(nearest_prime(0, &(251..=1_048_573)), 251);
        assert_eq!(nearest_prime(u64::MAX, &(251..=1_048_573)), 1_048_573);
    }
}
