//! The page: what a browser loads from `hexcuda serve`, and the same as one file that asks nothing of a network.
//!
//! ES modules, style sheets and the frame in `assets` are taken as they are, without a build step.

mod bundle;
mod html;
mod packed;

pub use bundle::{Block, block_name, file};
pub use html::{escape, fill, script_safe};
pub use packed::Lattice;

/// A file of the page.
pub struct Asset {
    /// Below `/assets/`.
    pub name: &'static str,
    pub kind: &'static str,
    pub text: &'static str,
}

/// `/`.
pub const INDEX: &str = include_str!("assets/index.html");

const fn asset(name: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { name, kind, text }
}

macro_rules! assets {
    ($($kind:literal: $($name:literal)*;)*) => {
        /// Everything that it loads.
        pub const ASSETS: &[Asset] = &[$($(asset($name, $kind, include_str!(concat!("assets/", $name))),)*)*];
    };
}

assets! {
    "text/css": "style.css" "panels.css";
    "text/javascript":
        "binary.js" "camera.js" "colour.js" "curves.js" "dom.js" "edit.js" "figures.js" "geometry.js" "latent.js" "live.js"
        "main.js" "mesh.js" "page.js" "pixels.js" "readout.js" "shaders.js" "source.js" "store.js" "tabs.js" "views.js";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_page_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/assets");
        let entries = std::fs::read_dir(folder).unwrap();
        let found = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let found: BTreeSet<String> = found.filter(|name| name != "index.html").collect();
        let listed: BTreeSet<String> = ASSETS.iter().map(|asset| asset.name.to_string()).collect();
        assert_eq!(found, listed);
    }
}
