//! Numbers and text as a person reads them.

/// Text that is safe in an element and in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// `1234567` -> `1,234,567`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 && digits != "0" { format!("\u{2212}{text}") } else { text }
}

/// Four significant digits; whole numbers in full.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    if value.fract() == 0.0 && size < 1e15 {
        return grouped(value);
    }
    match size {
        s if !(1e-4..1e6).contains(&s) => format!("{value:.3e}"),
        s if s >= 1000.0 => format!("{value:.0}"),
        s if s >= 100.0 => format!("{value:.1}"),
        s if s >= 10.0 => format!("{value:.2}"),
        s if s >= 1.0 => format!("{value:.3}"),
        s if s >= 0.01 => format!("{value:.4}"),
        s if s >= 0.001 => format!("{value:.5}"),
        _ => format!("{value:.6}"),
    }
}

/// Decimal units: 1 MB is 1,000,000 bytes.
pub fn bytes(count: f64) -> String {
    match count {
        c if c >= 1e9 => format!("{:.2} GB", c / 1e9),
        c if c >= 1e6 => format!("{:.2} MB", c / 1e6),
        c if c >= 1e3 => format!("{:.1} kB", c / 1e3),
        c => format!("{c:.0} B"),
    }
}

pub fn duration(seconds: f64) -> String {
    let whole = seconds.round();
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:02.0} s", (whole / 60.0).floor(), whole % 60.0),
        _ => format!("{:.0} h {:02.0} min", (whole / 3600.0).floor(), (whole % 3600.0 / 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(393_216.0), "393,216");
        assert_eq!(grouped(-1000.0), "\u{2212}1,000");
        assert_eq!(number(0.957_349), "0.9573");
        assert_eq!(number(0.000_012_3), "1.230e-5");
        assert_eq!(number(f64::NAN), "n/a");
        assert_eq!(bytes(1_572_864.0), "1.57 MB");
        assert_eq!(duration(299.6), "5 min 00 s");
        assert_eq!(duration(7384.0), "2 h 03 min");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }
}
