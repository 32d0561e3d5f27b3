//! The page, inside the program.

/// A file of the page.
pub struct Asset {
    /// Below `/assets/`.
    pub name: &'static str,
    pub kind: &'static str,
    pub bytes: &'static [u8],
}

/// `/`.
pub const INDEX: &str = include_str!("../page/assets/index.html");

/// Everything that it loads.
pub const ASSETS: &[Asset] =
    &[Asset { name: "style.css", kind: "text/css", bytes: include_bytes!("../page/assets/style.css") }];
