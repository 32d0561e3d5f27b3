//! Text that goes into HTML.

use serde_json::Value;

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

/// `template` with every `{{slot}}` replaced; what goes in is not searched again.
///
/// # Panics
/// Where a slot is not closed.
pub fn fill(template: &str, slot: impl Fn(&str) -> String) -> String {
    let mut parts = template.split("{{");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").expect("every slot of a template is closed");
        page.push_str(&slot(name));
        page.push_str(rest);
    }
    page
}

/// JSON that cannot end the script element it stands in.
pub fn script_safe(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
