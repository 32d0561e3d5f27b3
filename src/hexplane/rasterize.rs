//! rasterize
