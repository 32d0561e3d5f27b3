//! CPU building blocks: memory, SIMD selection, GEMM and convolution cores.

pub mod arena;
pub mod conv;
pub mod dispatch;
