//! CPU building blocks: memory, SIMD selection, GEMM micro-kernels, convolution cores, normalisation, vector functions, peak rates.

pub mod arena;
pub mod bf16;
pub mod conv;
pub mod group_norm;
pub mod mapped;
pub mod math;
pub mod peak;
pub mod products;
pub mod simd;
pub mod unwritten;

mod blocks;
mod gemm;
mod shared;
mod vector;
mod winograd;
