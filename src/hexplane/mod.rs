//! The six planes: views, rasterisation, files and pictures, the field they imply.

mod blur;
pub mod cache;
pub mod field;
pub mod files;
mod fill;
pub mod picture;
mod planes;
pub mod rasterize;
mod views;

pub use fill::fill;
pub use planes::{Planes, Representation};
pub use views::{VIEWS, View};
